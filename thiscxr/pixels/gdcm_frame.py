"""A program, not a module: decodes one coded frame from stdin to stdout with gdcm, in a process of its own.

gdcm crashes on damaged JPEG and JPEG-LS streams; here that costs one film and not the run. Arguments: transfer syntax,
photometric interpretation, then rows, columns, samples, bits allocated and stored. Words come out little endian,
samples interleaved.
"""

import sys

import gdcm

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

_MEMORY_BYTES = 4 * 2**30


def main(syntax: str, photometric: str, rows: int, columns: int, samples: int, allocated: int, stored: int) -> None:
    """Decode stdin to stdout."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(sys.stdin.buffer.read())
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType(photometric))
    )
    if samples > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, stored, stored - 1, 0))
    sys.stdout.buffer.write(image.GetBuffer().encode("utf-8", "surrogateescape"))  # gdcm returns bytes as str


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
