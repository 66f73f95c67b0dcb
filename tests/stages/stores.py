"""Small stores that tests write by hand."""

from wss.store import Store, StoreWriter


def written(path, schema, arrays, **meta):
    """Write a finished store with arrays by image id and entries of its meta; its key is the name of the file."""
    writer = StoreWriter(path, schema, {"key": path.stem})
    for image_id, each in arrays.items():
        writer.append(image_id, each)
    writer.meta.update(meta)
    writer.finish({})
    return Store(path, schema)
