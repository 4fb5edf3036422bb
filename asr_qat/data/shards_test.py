import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_qat.data.audio import encode_flac, load_audio, to_int16
from asr_qat.data.errors import AudioError, ShardError
from asr_qat.data.records import pack_record, unpack_record
from asr_qat.data.shards import (
    parse_address,
    read_record,
    read_records,
    record_address,
    shard_name,
    write_records,
)

RECORDS = [np.random.default_rng(i).bytes(3000 * (i + 1)) for i in range(40)]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / shard_name("train", 3, 16)
    write_records(path, iter(RECORDS))
    return path


def test_records_read_back(shard):
    assert shard.name == "train-00003-of-00016.array_record"
    assert list(read_records(shard)) == RECORDS
    assert read_record(shard, 17) == RECORDS[17]
    assert [path.name for path in shard.parent.iterdir()] == [shard.name]


def test_addresses(shard):
    assert parse_address(record_address(shard, 17)) == (shard, 17)
    for other in ("a.wav", "a.wav#3", "a.array_record", "a.array_record#", "a.array_record#x"):
        assert parse_address(other) is None
    assert parse_address(Path("b/a#1.array_record#2")) == (Path("b/a#1.array_record"), 2)


def test_threads_share_a_shard(shard):
    wrong = []

    def read(seed):
        for i in np.random.default_rng(seed).integers(len(RECORDS), size=300):
            if read_record(shard, int(i)) != RECORDS[i]:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_missing_shard_is_named_with_what_to_do(shard):
    assert read_record(shard, 0) == RECORDS[0]
    kept = shard.with_suffix(".away")
    os.rename(shard, kept)
    with pytest.raises(ShardError, match=r"00003-of-00016.array_record: .*missing.*Restore it"):
        read_record(shard, 0)
    os.rename(kept, shard)
    assert read_record(shard, 0) == RECORDS[0]


def test_a_record_that_is_not_there(shard):
    with pytest.raises(ShardError, match=r"array_record#40: the shard has 40 records.*prepare"):
        read_record(shard, 40)


@pytest.mark.parametrize("keep", [0, 1000, 200_000])
def test_a_shard_that_is_cut_short(shard, keep):
    read_record(shard, 0)
    os.truncate(shard, keep)
    with pytest.raises(ShardError, match=f"array_record.*{keep} bytes that are damaged"):
        read_record(shard, 0)


def test_a_damaged_record(shard):
    content = bytearray(shard.read_bytes())
    place = content.find(RECORDS[20][1000:1100])
    content[place] ^= 255
    shard.write_bytes(content)
    with pytest.raises(AudioError, match="array_record#20: the record is damaged") as caught:
        read_record(shard, 20)
    assert not isinstance(caught.value, ShardError)  # the others can still be read
    assert read_record(shard, 19) == RECORDS[19]


def test_a_shard_that_is_written_again_is_read_again(shard):
    read_record(shard, 0)
    write_records(shard, iter(RECORDS[::-1]))
    assert read_record(shard, 0) == RECORDS[-1]


def test_a_shard_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="absent/a.array_record"):
        write_records(tmp_path / "absent" / "a.array_record", iter(RECORDS))

    def broken():
        yield RECORDS[0]
        raise AudioError("no more")

    with pytest.raises(AudioError, match="no more"):
        write_records(tmp_path / "a.array_record", broken())
    assert not list(tmp_path.iterdir())


def test_records_describe_themselves():
    row = {"audio_filepath": "x", "duration": 1.5, "text": "été\n", "id": "u", "ends": [2]}
    content = pack_record(row, b"fLaC\n\n")
    del row["audio_filepath"]
    assert unpack_record(content, "here") == (row, b"fLaC\n\n")
    for bad in (b"", b"fLaC", b"[1]\nfLaC", b"{}\n", b"\xff\xfe\n1"):
        with pytest.raises(AudioError, match="here: expected a line of JSON"):
            unpack_record(bad, "here")


def test_audio_of_a_record(tmp_path):
    samples = np.random.default_rng(0).uniform(-1.1, 1.1, 5000).astype(np.float32)
    record = pack_record({"id": "a"}, encode_flac(to_int16(samples)))
    shard = tmp_path / "a.array_record"
    write_records(shard, iter([record, pack_record({"id": "b"}, b"no audio")]))
    loaded = load_audio(record_address(shard, 0))
    np.testing.assert_array_equal(to_int16(loaded), to_int16(samples))
    with pytest.raises(AudioError, match=r"a.array_record#1: expected a WAV, FLAC"):
        load_audio(record_address(shard, 1))
    flac = tmp_path / "a.flac"
    flac.write_bytes(unpack_record(read_record(shard, 0), "")[1])
    information = soundfile.info(flac)
    assert (information.samplerate, information.channels, information.subtype) == (
        16000,
        1,
        "PCM_16",
    )
