"""What an image's own texts and variables tell of its module loader."""

from __future__ import annotations

from kallsift.modules.exports.exports import exports
from kallsift.modules.exports.ksymtab_entries import Checksums, EntryForm
from kallsift.modules.insmod.kernel_config import Loader, loader
from tests.kernel.images import WIDE
from tests.modules.export_images import BASES, ExportImage, export_image
from tests.output.sample import Row

TEXTS, VARIABLES = 0x10000, 0x18000
BASE = BASES[8]

FORCED = b"\x014%s: %s: kernel tainted.\n\0"
STRICT = b"\x013%s: module uses symbol (%s) from namespace %s, but does not import it.\n\0"
VERMAGIC = b"\0007.2.13 SMP mod_unload modversions \0"


def loader_with(texts: bytes = b"", variables: bytes = b"", rows: tuple[Row, ...] = ()) -> Loader:
    """The loader of an image with these bytes and symbols, of a kernel 7.2.13."""
    image = export_image(WIDE, EntryForm(3, True), Checksums(4))
    image.data[TEXTS : TEXTS + len(texts)] = texts
    image.data[VARIABLES : VARIABLES + len(variables)] = variables
    named = ExportImage(image.data, WIDE, (*image.rows, *rows), image.lines)
    kernel = named.kernel(data_symbols=True)
    return loader(kernel, exports(kernel))


def test_texts_tell_how_it_was_built() -> None:
    silent = loader_with()
    assert (silent.forced, silent.lax_namespaces, silent.extended_versions, silent.vermagic) == (
        False,
        None,
        False,
        None,
    )
    telling = loader_with(FORCED + STRICT + VERMAGIC + b"\0__version_ext_names\0")
    assert (telling.forced, telling.lax_namespaces, telling.extended_versions) == (True, False, True)
    assert telling.vermagic == "7.2.13 SMP mod_unload modversions "
    assert loader_with(STRICT.replace(b"\x013", b"\x014")).lax_namespaces is True
    assert loader_with(STRICT.replace(b"\x013", b"\x013module: ")).lax_namespaces is False


def test_another_text_with_the_release_is_no_vermagic() -> None:
    assert loader_with(b"vermagic=" + VERMAGIC[1:]).vermagic is None


def test_symbols_tell_where_its_variables_are() -> None:
    number = VARIABLES + BASE
    rows = ((number, "D", "kernel_locked_down"), (number + 4, "D", "modules_disabled"), (number + 8, "r", "vermagic"))
    found = loader_with(variables=b"\1\0\0\0" + b"\0\0\0\0" + b"9.9 SMP \0", rows=rows)
    assert (found.locked_down, found.disabled, found.vermagic) == (True, False, "9.9 SMP ")
    assert (found.checks_signatures, found.signed_only) == (False, None)
    assert loader_with(rows=((BASE, "T", "mod_verify_sig"),)).checks_signatures


def test_of_several_variables_that_of_the_parameter_counts() -> None:
    variables = BASE + VARIABLES
    name = (variables + 64).to_bytes(8, "little")
    parameter = name + bytes(24) + (variables + 57).to_bytes(8, "little")
    data = parameter.ljust(56, b"\0") + b"\0\1".ljust(8, b"\0") + b"module.sig_enforce\0"
    both = ((variables + 56, "b", "sig_enforce"), (variables + 57, "b", "sig_enforce"))
    assert loader_with(variables=data, rows=both).signed_only is None
    assert loader_with(variables=data, rows=(*both, (variables, "d", "__param_sig_enforce"))).signed_only is True


def test_variables_that_lead_nowhere() -> None:
    rows = (
        (5, "d", "__param_sig_enforce"),
        (7, "d", "vermagic"),
        (9, "d", "module_blacklist"),
        (9, "b", "sig_enforce"),
    )
    found = loader_with(rows=rows)
    assert (found.signed_only, found.vermagic, found.blacklist) == (None, None, ())
