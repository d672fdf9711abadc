"""Names that a shared library exports: a reader of 64-bit little-endian ELF files, so that no binutils are needed."""

import struct

DYNSYM = 11
UNDEFINED = 0


def exported(path, prefix):
    """Defined dynamic symbols that begin with `prefix`."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:6] == b"\x7fELF\x02\x01", f"{path} is no 64-bit little-endian ELF file"
    table, = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + at * size) for at in range(count)]
    names = set()
    for section in sections:
        if section[1] != DYNSYM:
            continue
        strings = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], section[9]):
            name, _info, _other, index = struct.unpack_from("<IBBH", data, at)
            end = data.index(b"\0", strings + name)
            word = data[strings + name:end].decode("ascii", "replace")
            if index != UNDEFINED and word.startswith(prefix):
                names.add(word)
    return names
