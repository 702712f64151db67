"""Extractors: features kept by content, public networks by files of their shapes, hostile files refused, fair
judges."""

import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_fid.inception
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import DenseNet, densenet121

from thiscxr.files import sha256_file
from thiscxr.model.network_file import read_safetensors, write_safetensors
from thiscxr.pool import Pool
from thiscxr.reader import extractors, unpickle, weights
from thiscxr.reader.extractors import Extractor, extract, films_key, load_extractor, pool_key
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.networks import NETWORKS
from thiscxr.reader.training import Fold, save_reader
from thiscxr.reader.weights import import_weights, load_public, weights_path
from thiscxr.score.fairness import fair_groups, seen_films

XRV = "xrv-densenet121-nih"  # nobody published its hash, so a file of its shape may be imported


def reader(seed: int = 0, width: int = 8) -> Reader:
    torch.manual_seed(seed)
    return Reader(ReaderConfig((), (), (), res=32, widths=(8, width))).eval()


def extractor(name: str, seed: int = 0, **known: object) -> Extractor:
    return Extractor(name, f"{seed:064d}", reader(seed), **known)


def liven(network: nn.Module) -> nn.Module:
    """Give batch norms statistics that are not the trivial ones, or a wrong tensor would not show."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


# --- features and their cache ---


class Watched:
    """Batches of a pool that count how often they were read."""

    def __init__(self, pool: Pool, rows: np.ndarray, size: int = 50) -> None:
        self.pool, self.rows, self.size, self.reads = pool, rows, size, 0

    def __iter__(self):
        for some in extractors.in_batches(self.rows, self.size):
            self.reads += 1
            yield self.pool.read(some)


def test_several_extractors_in_one_pass_and_nothing_twice(pool: Pool) -> None:
    rows = pool.indices("all")
    first, second, third = (extractor(name, seed) for seed, name in enumerate("abc"))
    films, key = Watched(pool, rows), pool_key(pool, rows)
    features = extract(films, [first, second], count=len(rows), key=key)
    assert films.reads == 5, "one pass for both"
    for one, judge in zip(features, (first, second), strict=True):
        assert isinstance(one, np.memmap)
        assert (one.shape, one.dtype) == ((240, 8), np.float32)
        np.testing.assert_allclose(one, judge.features([pool.read(rows)]), rtol=1e-4, atol=1e-6)
    films.reads = 0
    again = extract(films, [second, third, first], count=len(rows), key=key)
    assert films.reads == 5, "only for the third"
    np.testing.assert_array_equal(again[0], features[1])
    np.testing.assert_array_equal(again[2], features[0])
    films.reads = 0
    extract(films, [first, second, third], count=len(rows), key=key)
    assert films.reads == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_computed_again(pool: Pool, tmp_path: Path, damage: str) -> None:
    rows, judge = pool.indices("holdout"), extractor("a")
    films, key = Watched(pool, rows), pool_key(pool, rows)
    before = np.array(extract(films, [judge], count=len(rows), key=key, folder=tmp_path)[0])
    (entry,) = tmp_path.iterdir()
    data = bytearray(entry.read_bytes())
    data[-3] ^= 1
    entry.write_bytes({"flip": data, "cut": data[:-9], "empty": b""}[damage])
    films.reads = 0
    after = extract(films, [judge], count=len(rows), key=key, folder=tmp_path)[0]
    assert films.reads > 0
    np.testing.assert_array_equal(before, after)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_pass_leaves_nothing(pool: Pool, tmp_path: Path) -> None:
    def broken():
        yield pool.read(np.arange(10))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(broken(), [extractor("a")], count=20, key="k", folder=tmp_path)
    with pytest.raises(ValueError, match="10 films came where 20 were announced"):
        extract([pool.read(np.arange(10))], [extractor("a")], count=20, key="k", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_of_content(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(20)
    assert pool_key(pool, rows) == pool_key(Pool.open(pool.path), rows)
    assert len({pool_key(pool, rows), pool_key(pool, rows[::-1]), pool_key(pool, rows[:19])}) == 3
    films = pool.read(rows)
    assert films_key(films) == films_key(films.copy())
    assert (
        len({films_key(films), films_key(films[::-1]), films_key(films[:19]), films_key(films.reshape(20, 16, 64))})
        == 4
    )
    entry = extractors._entry("k", extractor("a"))
    assert entry != extractors._entry("k", extractor("a", 1))
    monkeypatch.setattr(extractors, "CONTRACT", extractors.CONTRACT + 1)
    assert entry != extractors._entry("k", extractor("a"))


def test_bad_films_and_bad_weights_are_named(pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 32, 32, 3\), expected \[films, height, width\]"):
        extractor("a").features([np.zeros((2, 32, 32, 3), np.uint8)])
    spoilt = extractor("a")
    spoilt.reader.stem_norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="features that are not finite"):
        spoilt.features([pool.read(np.arange(2))])


# --- public networks: the published architectures with weights made here; not measured with the real ones ---


def densenet() -> nn.Module:
    network = densenet121(weights=None, num_classes=18)
    network.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return liven(network)


def small_densenet() -> nn.Module:
    """Right classes, wrong shapes, few bytes."""
    return DenseNet(4, (1, 1, 1, 1), 8, 2, num_classes=18)


@pytest.fixture(scope="module")
def xrv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole network in one pickle, in the format of torch before 1.6, as torchxrayvision released it."""
    path = tmp_path_factory.mktemp("xrv") / NETWORKS[XRV].file
    torch.save(densenet(), path, _use_new_zipfile_serialization=False)
    return path


def test_torchxrayvisions_network_gives_what_its_own_package_gives() -> None:
    xrv = pytest.importorskip("torchxrayvision.models")
    own = liven(xrv.DenseNet())
    ours = NETWORKS[XRV].build(own.state_dict()).eval()
    images = torch.rand(2, 1, 224, 224) * 2 - 1
    with torch.inference_mode():
        features = ours.features(images)
        torch.testing.assert_close(features, own.features2(images * 1024))
    assert features.shape == (2, NETWORKS[XRV].dim)
    assert features.std() > 0.01


@pytest.fixture(scope="module")
def inception_state() -> dict[str, torch.Tensor]:
    """The tensors of pytorch-fid's network, drawn here instead of downloaded."""
    drawn: dict[str, torch.Tensor] = {}

    def take(network: nn.Module, *_: object, **__: object) -> None:
        drawn.update(liven(network).state_dict())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", take)
        pytorch_fid.inception.fid_inception_v3()
    return drawn


@pytest.mark.parametrize("side", [64, 299])
def test_inception_gives_what_pytorch_fid_gives(
    inception_state: dict, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: inception_state)
    own = pytorch_fid.inception.InceptionV3().eval()
    ours = NETWORKS["inception"].build(inception_state).eval()
    films = torch.rand(2, 1, side, side)
    with torch.inference_mode():
        expected = own(films.expand(-1, 3, -1, -1))[0][:, :, 0, 0]
        features = ours.features(films * 2 - 1)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert features.shape == (2, NETWORKS["inception"].dim)


def test_inception_is_pinned(inception_state: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / NETWORKS["inception"].file
    save_file(inception_state, file)
    with pytest.raises(ValueError, match=r"has SHA-256 .*, but inception was published with 6726825d"):
        import_weights(file)
    assert not weights_path("inception").exists()
    monkeypatch.setitem(NETWORKS, "inception", replace(NETWORKS["inception"], sha256=sha256_file(file)))
    import_weights(file)
    loaded = load_extractor("inception")
    assert (loaded.dim, loaded.sha256) == (2048, sha256_file(file))
    assert loaded.features([np.zeros((1, 32, 32), np.uint8)]).shape == (1, 2048)
    with pytest.raises(ValueError, match="inception gives features and no answers"):
        _ = loaded.reader


@pytest.mark.parametrize("new", [True, False])
def test_a_state_dict_is_read_in_either_format(tmp_path: Path, new: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    for content in (network.state_dict(), {"state_dict": network.state_dict()}, network):
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
        tensors = unpickle.read_checkpoint((tmp_path / "x.pt").read_bytes())
        assert tensors.keys() == network.state_dict().keys()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensors[name], tensor)


def test_rad_dino_gives_its_cls_token_under_either_spelling() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2}
    own = transformers.Dinov2Model(transformers.Dinov2Config(image_size=518, **small)).eval()
    state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in own.state_dict().items()}
    own.load_state_dict(state)
    renamed = {}
    for name, tensor in state.items():  # as the published file spells them
        for new, old in (("q_proj", "attention.query"), ("k_proj", "attention.key"), ("v_proj", "attention.value")):
            name = name.replace(f"attention.{new}", f"attention.{old}")
        renamed[name.replace("attention.o_proj", "attention.output.dense")] = tensor
    films = torch.rand(1, 1, 518, 518)
    with torch.inference_mode():
        expected = own(pixel_values=((films - 0.5307) / 0.2583).expand(-1, 3, -1, -1)).last_hidden_state[:, 0]
        for tensors in (state, renamed):
            ours = NETWORKS["rad-dino"].build(tensors, **small).eval()
            torch.testing.assert_close(ours.features(films * 2 - 1), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"1 tensors are missing.*layernorm.bias"):
        NETWORKS["rad-dino"].build(
            {name: tensor for name, tensor in state.items() if name != "layernorm.bias"}, **small
        )
    with pytest.raises(ValueError, match=r"1 tensors are missing.*layernorm.bias"):
        NETWORKS["rad-dino"].build({**state, "layernorm.bias": torch.zeros(3)}, **small)


def test_a_network_pickled_whole_is_imported_and_used(xrv_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        ValueError,
        match=rf"weights of {XRV} are not here; get https://.*thiscxr extractors import .*--allow-download",
    ):
        load_extractor(XRV)
    with caplog.at_level("INFO", logger="thiscxr"):
        assert import_weights(xrv_file) == weights_path(XRV), "known by its name"
    assert "nobody published a SHA-256" in caplog.text
    loaded = load_extractor(XRV)
    assert loaded.sha256 == sha256_file(xrv_file)
    films = np.random.default_rng(0).integers(0, 256, (2, 64, 64)).astype(np.uint8)
    expected = NETWORKS[XRV].build(densenet_like(xrv_file)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(loaded.features([films])), expected.features(extractors._images(films))
        )
    entry = next(entry for entry in extractors.list_extractors() if entry["name"] == XRV)
    assert entry["weights"] == str(weights_path(XRV))
    assert entry["sha256"] is None
    metadata, tensors = read_safetensors(weights_path(XRV), "extractor", weights.WEIGHTS_FORMAT)
    tensors["features.conv0.weight"][0] += 1
    write_safetensors(
        weights_path(XRV), tensors, {**metadata, "kind": "extractor", "format_version": weights.WEIGHTS_FORMAT}
    )
    with pytest.raises(ValueError, match="is damaged or of another network; import it again"):
        load_extractor(XRV)


def densenet_like(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a network that this test wrote itself."""
    return torch.load(path, weights_only=False).state_dict()


def test_wrong_shapes_and_unknown_files_are_refused(tmp_path: Path) -> None:
    small = tmp_path / "small.pt"
    save_file(small_densenet().state_dict(), small)
    with pytest.raises(
        ValueError,
        match=rf"small.pt is not the weights of {XRV}: [0-9]+ tensors are missing, "
        r"unknown or of another shape, such as ",
    ):
        import_weights(small, XRV)
    with pytest.raises(ValueError, match=r"is no file that is known; say whose weights it is: --name xrv"):
        import_weights(small)
    with pytest.raises(ValueError, match=r"no public network 'incption' \(did you mean 'inception'"):
        import_weights(small, "incption")
    with pytest.raises(ValueError, match="is not a file"):
        import_weights(tmp_path / "none.pt", XRV)
    save_file({"features.conv0.weight": torch.zeros(1)}, tmp_path / "few.safetensors")
    with pytest.raises(ValueError, match="is not the weights of"):
        import_weights(tmp_path / "few.safetensors", XRV)
    assert not weights_path(XRV).parent.exists()


def test_a_download_happens_only_when_allowed_and_goes_the_way_of_an_import(
    xrv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    fetch = torch.hub.download_url_to_file
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda url, *rest, **options: (fetched.append(url), fetch(url, *rest, **options)),
    )
    file = tmp_path / "published.safetensors"
    save_file(densenet_like(xrv_file), file)
    monkeypatch.setitem(NETWORKS, XRV, replace(NETWORKS[XRV], url=file.as_uri()))
    with pytest.raises(ValueError, match="are not here"):
        load_public(XRV)
    assert fetched == []
    assert load_public(XRV, allow_download=True)[1] == sha256_file(file)
    assert [path.name for path in weights_path(XRV).parent.iterdir()] == [f"{XRV}.safetensors"]
    weights_path(XRV).unlink()
    monkeypatch.setitem(NETWORKS, XRV, replace(NETWORKS[XRV], url=file.as_uri(), sha256="0" * 64))
    with pytest.raises(ValueError, match="was published with 0000"):
        load_public(XRV, allow_download=True)
    monkeypatch.setitem(NETWORKS, XRV, replace(NETWORKS[XRV], url=(tmp_path / "gone.pt").as_uri()))
    with pytest.raises(
        ValueError, match=r"cannot be downloaded .*get it by other means and: thiscxr extractors import gone.pt"
    ):
        load_public(XRV, allow_download=True)
    assert list(weights_path(XRV).parent.iterdir()) == []


def test_what_only_old_layers_hold_is_no_hindrance(tmp_path: Path) -> None:
    """Layers of torch 1.3 refer to a backend, and have no list of buffers that are not kept."""
    thnn = pytest.importorskip("torch.nn.backends.thnn")
    network = nn.Sequential(nn.Linear(2, 2))
    for layer in network.modules():
        layer._backend = Reduced(thnn._get_thnn_function_backend)
        del layer._non_persistent_buffers_set
    torch.save(network, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert unpickle.read_checkpoint((tmp_path / "old.pt").read_bytes()).keys() == {"0.weight", "0.bias"}


# --- hostile files ---

PWNED = "pwned"


class Reduced:
    """Pickles as a call."""

    def __init__(self, function: object, *values: object) -> None:
        self.call = (function, values)

    def __reduce__(self) -> tuple:
        return self.call


def as_zip(path: Path, payload: object) -> None:
    torch.save({"features.conv0.weight": payload}, path)


def as_old_format(path: Path, payload: object) -> None:
    torch.save({"features.conv0.weight": payload}, path, _use_new_zipfile_serialization=False)


def as_bare_pickle(path: Path, payload: object) -> None:
    path.write_bytes(pickle.dumps(payload))


def as_swapped_pickle(path: Path, payload: object) -> None:
    """A sound checkpoint whose data.pkl was replaced."""
    sound = path.with_suffix(".sound")
    torch.save({"features.conv0.weight": torch.zeros(3)}, sound)
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            new.writestr(member, pickle.dumps(payload, 4) if member.filename.endswith("data.pkl") else old.read(member))


def in_layers(path: Path, payload: object) -> None:
    """The call is hidden in an attribute of a layer deep in a network."""
    network = small_densenet()
    network.features.denseblock1.denselayer1.conv1.padding = payload
    torch.save(network, path)


SHELL = f"touch {PWNED}"
PAYLOADS: dict[str, Callable[[], object]] = {
    "os.system": lambda: Reduced(os.system, SHELL),
    "eval": lambda: Reduced(eval, f"__import__('os').system('{SHELL}')"),
    "getattr": lambda: Reduced(getattr, "x", "upper"),
    "nested": lambda: [Reduced(exec, f"import os; os.system('{SHELL}')"), {"x": Reduced(os.system, SHELL)}],
    "import by argument": lambda: Reduced(__import__, "os"),
    "torch": lambda: Reduced(torch.load, "x"),
}


def test_a_hostile_checkpoint_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "evil.pt"
    as_old_format(file, PAYLOADS["os.system"]())
    with pytest.raises(
        ValueError, match=r"evil.pt is refused: it asks for \w+.system, which no network needs; nothing in it was run"
    ) as refused:
        import_weights(file, XRV)
    assert "\n" not in str(refused.value)
    assert not weights_path(XRV).exists()
    assert not (tmp_path / PWNED).exists()
    torch.load(file, weights_only=False)  # the payload does work where nothing stops it
    assert (tmp_path / PWNED).exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("wrap", [as_zip, as_old_format, as_bare_pickle, as_swapped_pickle, in_layers])
def test_no_name_is_looked_up_but_the_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: Callable, payload: str
) -> None:
    monkeypatch.chdir(tmp_path)
    wrap(tmp_path / "evil.pt", PAYLOADS[payload]())
    with pytest.raises(ValueError, match=r"which no network needs|neither a checkpoint of torch"):
        unpickle.read_checkpoint((tmp_path / "evil.pt").read_bytes())
    assert not (tmp_path / PWNED).exists()


def opcodes(body: bytes) -> bytes:
    """An old-format checkpoint whose object is this pickle."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + b"\x80\x04" + body + pickle.dumps([], 2)


LAYER = b"ctorch.nn.modules.linear\nLinear\n"
CRAFTED = {
    "dotted name": (b"\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.", "which no network needs"),
    "a class gets attributes": (LAYER + b"N}\x8c\x0cdump_patches\x88s\x86b.", "it changes classes"),
    "a function gets attributes": (
        b"ctorch._utils\n_rebuild_parameter\nN}\x8c\x0b__wrapped__\x88s\x86b.",
        "it changes functions",
    ),
    "extension registry": (b"\x82\x01.", "unregistered extension"),
    "persistent id of nothing": (b"\x8c\x01xQ.", "."),
    "itself": (LAYER + b")\x81\x94}\x8c\x08_modules}\x8c\x01ah\x00ssb.", "nor a network of known layers"),
    "not a tensor": (b"}\x8c\x01aK\x01s.", "'a' in it is not a tensor"),
    "a number": (b"K\x01.", "nor a network of known layers"),
    "nothing": (b"}.", "there are no tensors"),
    "stack underflow": (b"R.", "."),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_opcodes_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    body, message = CRAFTED[name]
    with pytest.raises(Exception, match=message):  # whatever it is, the program makes one line of it
        unpickle.read_checkpoint(opcodes(body))
    assert list(tmp_path.iterdir()) == []


def test_sources_in_a_pickle_are_not_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch offers to write a patch where the source code in an old pickle differs from today's, if the class says
    so."""
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Linear(2, 2))
    torch.save(network, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "old.pt").read_bytes()
    assert b"class Linear" in data, "the pickle carries source code"
    monkeypatch.setattr(nn.Module, "dump_patches", True)
    unpickle.read_checkpoint(data.replace(b"class Linear", b"class LINEAR"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.pt"]


def test_bombs_and_programs_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pt"
    torch.save({"a": torch.zeros(1).expand(10**12)}, bomb)
    with pytest.raises(ValueError, match="tensors are larger"):
        unpickle.read_checkpoint(bomb.read_bytes())
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"")
        for i in range(3):
            archive.writestr(f"x/data/{i}", b"\0" * 2**20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpickle, "_MAX_BYTES", 2**21)
        with pytest.raises(ValueError, match="unpacks to more"):
            unpickle.read_checkpoint(bomb.read_bytes())
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as archive:
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(ValueError, match="TorchScript"):
        unpickle.read_checkpoint(script.read_bytes())


def test_a_reader_that_hangs_or_crashes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(b"x")
    program = tmp_path / "program.py"
    monkeypatch.setattr(weights, "_UNPICKLE", program)
    program.write_text("import os; os.abort()")
    with pytest.raises(ValueError, match="refused: its reader crashed"):
        import_weights(file, XRV)
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(weights, "_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"could not be read in 0.2 s"):
        import_weights(file, XRV)


# --- who may judge whom ---


def prefixes(pool: Pool, rows: np.ndarray) -> frozenset[str]:
    return frozenset(value[:16] for value in pool.column("sha256")[rows])


def of_patients(pool: Pool, numbers: slice) -> np.ndarray:
    """Rows of the training patients whose places, in order of appearance, are in the slice."""
    train = pool.indices("train")
    names = list(dict.fromkeys(pool.column("patient")[train]))[numbers]
    return train[np.isin(pool.column("patient")[train], names)]


def test_a_network_that_saw_nobody_judges_all(pool: Pool) -> None:
    rows = pool.indices("all")
    stranger = extractor("a", sources=frozenset({"nih"}), trained_on=frozenset({"0" * 16}))
    ((judge, judged),) = fair_groups(pool, rows, stranger)
    assert judge is stranger
    np.testing.assert_array_equal(judged, rows)
    assert fair_groups(pool, rows[:0], stranger) == []


def test_folds_judge_the_patients_that_they_did_not_see(pool: Pool) -> None:
    a, b = of_patients(pool, slice(0, 40)), of_patients(pool, slice(40, None))
    rng = np.random.default_rng(0)
    rows = rng.permutation(pool.indices("all"))
    folds = tuple(
        extractor(f"f{i}", i, sources=frozenset({"discs"}), trained_on=prefixes(pool, some))
        for i, some in enumerate((a, b), 1)
    )
    main = extractor("m", sources=frozenset({"discs"}), trained_on=prefixes(pool, np.r_[a, b]), folds=folds)
    groups = fair_groups(pool, rows, main)
    assert [judge for judge, _ in groups] == list(folds)
    holdout = set(pool.indices("holdout"))
    assert [set(judged) for _, judged in groups] == [set(b) | holdout, set(a) | holdout]
    patients = pool.column("patient")
    for judged, learnt in zip((group[1] for group in groups), (a, b), strict=True):
        assert not set(patients[judged]) & set(patients[learnt])
    np.testing.assert_array_equal(groups[0][1], rows[np.isin(rows, groups[0][1])])  # in the order asked for
    ((judge, judged),) = fair_groups(pool, pool.indices("holdout"), main)
    assert judge is main, "nobody of these was seen, so the network itself judges"
    ((judge, judged),) = fair_groups(pool, a, main)
    assert judge is folds[1], "the other fold saw all of them"


def test_without_folds_the_unseen_are_judged_and_one_known_film_gives_away_its_patient(pool: Pool) -> None:
    one = of_patients(pool, slice(0, 1))
    assert len(one) == 2
    main = extractor("m", sources=frozenset({"discs"}), trained_on=prefixes(pool, one[:1]))
    np.testing.assert_array_equal(np.flatnonzero(seen_films(pool, main)), one)
    ((judge, judged),) = fair_groups(pool, pool.indices("all"), main)
    assert judge is main
    assert set(judged) == set(pool.indices("all")) - set(one)
    assert fair_groups(pool, one, main) == []


def test_a_collection_prepared_otherwise_counts_as_seen_and_the_phantom_does_not(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_size = extractor("m", sources=frozenset({"discs"}), trained_on=frozenset({"f" * 16}))
    for main in (other_size, replace(other_size, trained_on=frozenset())):
        ((_, judged),) = fair_groups(pool, pool.indices("all"), main)
        np.testing.assert_array_equal(judged, pool.indices("holdout"))
    # A fold that knows none of these films, but whose network knows some, was trained on them prepared alike.
    fold = replace(other_size, name="f", trained_on=prefixes(pool, pool.indices("holdout")[:0]) | {"e" * 16})
    knowing = replace(other_size, trained_on=prefixes(pool, of_patients(pool, slice(0, 1))), folds=(fold,))
    ((judge, judged),) = fair_groups(pool, pool.indices("all"), knowing)
    assert judge is fold
    assert len(judged) == len(pool)
    monkeypatch.setattr("thiscxr.score.fairness.is_phantom", lambda source: source == "discs")
    ((_, judged),) = fair_groups(pool, pool.indices("all"), other_size)
    assert len(judged) == len(pool)


def test_a_reader_file_says_what_it_was_trained_on(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    train = prefixes(pool, pool.indices("train"))
    some = prefixes(pool, of_patients(pool, slice(0, 40)))
    save_reader(path, reader(), pool, {}, [Fold(reader(1), some), Fold(reader(2), train - some)])
    loaded = load_extractor(str(path))
    assert loaded.sources == {"discs"}
    assert loaded.trained_on == train
    assert [fold.trained_on for fold in loaded.folds] == [some, train - some]
    assert len({loaded.sha256, *(fold.sha256 for fold in loaded.folds)}) == 3, "or the cache would mix them up"
    groups = fair_groups(pool, pool.indices("all"), loaded)
    assert sum(len(judged) for _, judged in groups) == len(pool) + len(pool.indices("holdout"))


def test_every_public_network_says_what_it_is() -> None:
    assert {name for name in NETWORKS if name.startswith("xrv")} == {
        f"xrv-densenet121-{key}" for key in ("all", "nih", "pc", "chex", "rsna", "mimic_nb", "mimic_ch")
    }
    for network in NETWORKS.values():
        assert len(network.sha256) in (0, 64)
        assert network.licence
        assert network.url.startswith("https://")
    assert NETWORKS["inception"].file.endswith(f"-{NETWORKS['inception'].sha256[:8]}.pth")


def test_torchxrayvision_lists_the_same_weights() -> None:
    xrv = pytest.importorskip("torchxrayvision.models")
    theirs = {
        key.removeprefix("densenet121-res224-"): value["weights_url"]
        for key, value in xrv.model_urls.items()
        if "res224" in key
    }
    assert theirs == {
        name.removeprefix("xrv-densenet121-"): n.url for name, n in NETWORKS.items() if name.startswith("xrv")
    }


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'thiscxr\[rad-dino\]'"):
        NETWORKS["rad-dino"].build(SimpleNamespace())
