"""Bags that are made, or by chance came, to take all memory or disk, or to break what reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from backports.zstd import ZstdCompressor

from pi0_ttnn_ros.aloha import sample_bag as sample
from pi0_ttnn_ros.bags import files
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.cli.main import main
from support import bags
from support.memory import run_python

GIB = 1 << 30
STRING = "std_msgs/msg/String"


def compressed_zeros(size: int) -> bytes:
    """Return `size` zeros, a multiple of a MiB, compressed."""
    compressor = ZstdCompressor()
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(size >> 20)) + compressor.flush()


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """One and a half GiB in some kilobytes."""
    return compressed_zeros(GIB * 3 // 2)


def with_chunk(content: bytes, size: int) -> bytes:
    """Return an MCAP file with a good message, and a chunk whose head says that its content has `size` bytes."""
    loose = bags.loose_mcap([(1, "/a", b"\0\1\0\0\1\0\0\0\0")], {"/a": STRING})
    head = struct.pack("<QQQI", 0, 0, size, 0) + bags.text("zstd") + struct.pack("<Q", len(content))
    end = loose.index(bags.record(15, bytes(4)))
    return loose[:end] + bags.record(6, head + content) + loose[end:]


def read_in_process(path: Path) -> tuple[float, list[str]]:
    """Return the peak memory (MiB) of a process that reads a bag, and the bag's problems."""
    program = (
        "import os, sys; from pathlib import Path; from pi0_ttnn_ros.bags.reader import open_bag\n"
        "from support.memory import peak_memory\n"
        "with open_bag(Path(sys.argv[1])) as bag:\n"
        "    assert [message.topic for message in bag.messages(['/a'])] == ['/a']\n"
        "    print(*bag.problems, peak_memory(os.getpid()), sep='\\n')"
    )
    *problems, memory = run_python(program, str(path)).splitlines()
    return float(memory), problems


@pytest.mark.parametrize("size", [100, GIB * 3 // 2, 2**64 - 1])
def test_chunk_that_is_huge_once_unpacked(tmp_path, bomb, size):
    """It is left out, whatever its head says of its size, and takes no memory."""
    (tmp_path / "a.mcap").write_bytes(with_chunk(bomb, size))
    memory, (line,) = read_in_process(tmp_path / "a.mcap")
    assert memory < 400 and "damaged chunk" in line


def test_message_that_is_huge_once_unpacked(tmp_path, bomb):
    """It is left out, and takes no memory."""
    loose = bags.loose_mcap([(1, "/a", b"\0\1\0\0\1\0\0\0\0"), (2, "/a", bomb)], {"/a": STRING})
    (tmp_path / "a.mcap").write_bytes(loose)
    memory, (line,) = read_in_process(tmp_path / "a.mcap")
    assert memory < 900 and "a message is damaged and left out (more than" in line


@pytest.mark.parametrize("suffix", [".mcap.zstd", ".db3.zstd"])
def test_file_that_is_huge_once_unpacked(tmp_path, monkeypatch, bomb, suffix):
    """It is refused with the remedy, and leaves nothing in the temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    file = tmp_path / f"a{suffix}"
    file.write_bytes(bomb)
    with pytest.raises(BagError, match=r"unpacks to more than 268 MB.* copy it again .* `zstd -d`"), open_bag(file):
        pass
    assert not list((tmp_path / "temporary").iterdir())


def test_file_that_would_fill_the_disk(sample_bag, tmp_path, monkeypatch):
    """It is refused with the remedy."""
    file = bags.rewrite(sample_bag, tmp_path / "bag", "mcap", "file")
    monkeypatch.setattr(files, "MIN_FREE_SIZE", 1 << 60)
    with pytest.raises(BagError, match="when unpacked: set TMPDIR"), open_bag(file):
        pass


@pytest.fixture(scope="module")
def small(sample_bag, tmp_path_factory) -> dict[str, bytes]:
    """Storage files of half a second, by name."""
    folder = tmp_path_factory.mktemp("small")
    entries = [entry for entry in bags.entries(sample_bag) if entry[0] < sample.START_NS + 5 * 10**8]
    found = {}
    for storage, compression in (("mcap", "none"), ("mcap", "storage"), ("sqlite3", "none"), ("mcap", "message")):
        file = bags.rewrite(sample_bag, folder / f"{storage}_{compression}", storage, compression, only=entries)
        found[f"{storage}_{compression}{file.suffix}"] = file.read_bytes()
    found["loose.mcap"] = bags.loose_mcap(entries, {topic: kind for topic, (kind, _) in sample.TOPICS.items()})
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["mcap_none.mcap", "mcap_storage.mcap", "mcap_message.mcap", "loose.mcap"])
def test_mutated_end(small, tmp_path, name, seed):
    """Random bytes in the last 3 kB, where index and last messages are, never end in a traceback."""
    check_mutations(small[name], tmp_path / name, np.random.default_rng(seed), begin=-3000)


@pytest.mark.parametrize("name", ["mcap_none.mcap", "mcap_storage.mcap", "loose.mcap", "sqlite3_none.db3"])
def test_mutated_anywhere(small, tmp_path, name):
    """Random bytes anywhere never end in a traceback."""
    check_mutations(small[name], tmp_path / name, np.random.default_rng(0), begin=0)


def check_mutations(content: bytes, file: Path, random: np.random.Generator, begin: int) -> None:
    """Check bags in which up to 200 bytes from `begin` on are random."""
    begin %= len(content)
    for _ in range(20):
        mutated = np.frombuffer(content, np.uint8).copy()
        where = random.integers(begin, len(content), random.integers(1, 200))
        mutated[where] = random.integers(0, 256, len(where), np.uint8)
        file.write_bytes(mutated)
        assert main(["bag-info", str(file), "--robot", "sample"]) in (0, 1, 2)
