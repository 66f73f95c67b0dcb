"""Formats of volumes that are not read, with the reason and the remedy."""

from __future__ import annotations

from pathlib import Path

_UNREAD = {
    ".hdr": "the header of a pair of files (.hdr and .img), which is not read",
    ".img": "the values of a pair of files (.hdr and .img), which is not read",
    ".nrrd": "an NRRD file, which is not read",
    ".nhdr": "an NRRD file, which is not read",
    ".mha": "a MetaImage file, which is not read",
    ".mhd": "a MetaImage file, which is not read",
    ".mgz": "a FreeSurfer file, which is not read",
    ".mgh": "a FreeSurfer file, which is not read",
    ".mnc": "a MINC file, which is not read",
    ".dcm": "a DICOM file outside of a folder for its series, which is not read",
}


_PAIR = "`nibabel.save(nibabel.load('a.hdr'), 'a.nii.gz')` in Python"


_REMEDIES = {
    ".hdr": f"save it as one NIfTI file: {_PAIR}",
    ".img": f"save it as one NIfTI file: {_PAIR}",
    ".mgz": "save it as NIfTI (mri_convert a.mgz a.nii.gz)",
    ".mgh": "save it as NIfTI (mri_convert a.mgh a.nii.gz)",
    ".dcm": "put the files of one series into a folder of the volume's name and use kind dicom; a segmentation (SEG) becomes "
    "NIfTI first (3D Slicer: export to a labelmap)",
}


_CONVERT = "save it as NIfTI (3D Slicer, or in Python SimpleITK.WriteImage(SimpleITK.ReadImage('a.nrrd'), 'a.nii.gz'))"


def unread_volume(path: Path) -> tuple[str, str] | None:
    """Describe an unsupported volume format by file ending, with a remedy; None for other files."""
    ending = path.suffix.lower()
    return None if ending not in _UNREAD or path.is_dir() else (_UNREAD[ending], _REMEDIES.get(ending, _CONVERT))
