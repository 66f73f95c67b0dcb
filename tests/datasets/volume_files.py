"""Volumes for tests, written with the libraries that define their formats."""

import gzip

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

AFFINE = np.array([[-1.5, 0, 0, 40], [0, 1.25, 0, -60], [0, 0, 6, 12], [0, 0, 0, 1.0]])


def save(path, values, affine=AFFINE, *, slope=None, inter=0.0, two=False, units="mm", order="<"):
    """A NIfTI file; with ``slope`` the stored values mean ``values * slope + inter``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, header = (nibabel.Nifti2Image, nibabel.Nifti2Header) if two else (nibabel.Nifti1Image, nibabel.Nifti1Header)
    head = header(endianness=order)
    head.set_data_dtype(np.asarray(values).dtype)
    image = kind(np.asarray(values), affine, head)
    image.header.set_xyzt_units(units)
    if slope is not None:
        image.header["scl_slope"], image.header["scl_inter"] = slope, inter
        with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as file:
            image.header.write_to(file)
            file.write(b"\0" * (int(image.header["vox_offset"] or image.header.single_vox_offset) - file.tell()))
            file.write(np.asarray(values).astype(head.get_data_dtype()).tobytes(order="F"))
        return
    nibabel.save(image, path)


def volumes(root, count=5, shape=(20, 24, 6), affine=AFFINE, annotated=True):
    """A data set of kind nifti: ``v0``, ``v1``, ..., an organ in the middle of each."""
    rng = np.random.default_rng(0)
    mask = np.zeros(shape, np.uint8)
    mask[5:15, 6:18, 1:5] = 1
    scribble = np.full(shape, 255, np.uint8)
    scribble[8:10, 8:14, :] = np.where(mask[8:10, 8:14] == 1, 1, 0)
    scribble[0:2, 0:9] = 0
    for n in range(count):
        values = (mask * np.int16(400) + rng.integers(-100, 200, shape)).astype(np.int16)
        save(root / "images" / f"v{n}.nii.gz", values, affine)
        if annotated:
            save(root / "masks" / f"v{n}.nii.gz", mask, affine)
            save(root / "scribbles" / f"v{n}.nii.gz", scribble, affine)
    (root / "classes.txt").write_text("background\norgan\n")
    return mask


def dicom_slice(path, stored, position, *, number=1, series="1.2.3", orientation=(1, 0, 0, 0, 1, 0), **tags):
    """One file of a series; ``stored`` (H, W) int16 or uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.Modality, data.InstanceNumber = series, "CT", number
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    if position is not None:
        data.ImagePositionPatient, data.ImageOrientationPatient = [*map(float, position)], [*map(float, orientation)]
    data.PixelSpacing = [0.75, 0.5]
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    data.save_as(path, enforce_file_format=True)


def series(folder, values, *, step=3.0, order=None, name="s{:02d}.dcm", **tags):
    """A series of slices ``values`` (N, H, W), 3 mm apart from z = 10 upwards; files are named in ``order``."""
    order = list(order if order is not None else range(len(values)))
    for place, number in enumerate(order):
        position = (-20, -30, 10 + step * number)
        dicom_slice(folder / name.format(place), values[number], position, number=place + 1, **tags)
