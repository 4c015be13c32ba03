"""`ptycho judge`: anybody's object and probe against the counts of a scan."""

import json
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from ptycho.cli.main import main
from ptycho.data.lazy import MaskedFrames
from ptycho.data.object_files import Reconstruction, Refined, save_reconstruction
from ptycho.data.refined_positions import RefinedPositions
from ptycho.data.selection import parse_exposures
from ptycho.data.views import HOLDOUT, save_view
from ptycho.formats.reconstructions import read_candidate
from ptycho.inspection.judgment import judge
from ptycho.physics.detector import Detector
from ptycho.physics.forward import predict_intensity
from ptycho.reporting.misfits import short_names
from ptycho.workflow.files import ContractError
from tests.conftest import view_of

PIXEL_M = 12e-9


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_product(path, scan, *, center, order=None, probe=None):
    """A ptychodus product of the truth as its format says: positions in meters about the center of the object."""
    order, obj = np.arange(len(scan)) if order is None else order, scan.object[...]
    height, width = obj.shape
    with h5py.File(path, "w") as file:
        file["object"] = obj[None]
        file["object"].attrs.update(center_x_m=3e-6, center_y_m=-1e-6, pixel_width_m=PIXEL_M, pixel_height_m=PIXEL_M)
        file["probe"] = 0.1 * (scan.probe if probe is None else probe)[None]
        file["probe_position_indexes"] = order
        file["probe_position_x_m"] = 3e-6 + (scan.xcoords[order] - center(width)) * PIXEL_M
        file["probe_position_y_m"] = -1e-6 + (scan.ycoords[order] - center(height)) * PIXEL_M


def misfit_of(path, scan, **options):
    return judge(read_candidate(path, scan), scan, **options).misfit


def test_the_truth_has_a_misfit_of_one_and_a_wrong_probe_more(scan):
    np.savez("truth.npz", objectGuess=scan.object[...])
    truth = misfit_of("truth.npz", scan)
    assert judge(read_candidate("truth.npz", scan), scan).over_mean_pattern < 0.7
    assert abs(truth.ratio - 1) < 4 * truth.standard_error < 0.05
    np.savez("flipped.npz", object=scan.object[...], probe=scan.probe[0, :, ::-1])
    assert misfit_of("flipped.npz", scan).ratio > 1.2


def test_shot_noise_explains_more_where_the_probe_was_estimated_too(scan):
    np.savez("known.npz", objectGuess=scan.object[...])
    np.savez("refined.npz", objectGuess=scan.object[...], probe=scan.probe / 2)
    known, refined = (judge(read_candidate(name, scan), scan) for name in ("known.npz", "refined.npz"))
    more = refined.explained - known.explained
    assert more == pytest.approx(2 * scan.probe.size / len(scan) / known.misfit.expected.mean(), rel=0.05)


@pytest.mark.parametrize("center", [lambda size: size / 2, lambda size: (size - 1) / 2])
def test_a_product_is_placed_whichever_center_it_means(scan, center):
    order = np.random.default_rng(0).permutation(len(scan))[:40]
    write_product("product.h5", scan, center=center, order=order)
    judgment = judge(read_candidate("product.h5", scan), scan)
    assert judgment.misfit.ratio == pytest.approx(1, abs=4 * judgment.misfit.standard_error)
    assert sorted(judgment.candidate.exposures) == sorted(order)
    factor = next(note for note in judgment.candidate.notes if "multiplied by" in note).split()[-1]
    assert float(factor) == pytest.approx(100, rel=0.01)


def test_an_object_of_a_fourier_transform_of_the_other_sign_is_conjugated(scan):
    obj = np.pad(scan.object[...].conj(), ((2, 0), (3, 1)), "edge")  # of unknown origin, too
    np.savez("other.npz", object=obj, probe=scan.probe.conj())
    judgment = judge(read_candidate("other.npz", scan), scan)
    assert judgment.misfit.ratio < 1.05
    assert any("conjugate" in note for note in judgment.candidate.notes)
    assert any("moved by +2 px (y) and +3 px (x)" in note for note in judgment.candidate.notes)


def test_an_object_file_is_taken_with_its_origin_and_its_own_probe(scan):
    obj = scan.object[...]
    inner = Reconstruction(
        object=obj[2:-1, 3:-2],
        illumination=np.ones(obj[2:-1, 3:-2].shape),
        origin_px=(2, 3),
        refined=Refined(probe=(scan.probe * np.sqrt(2)).astype(np.complex64)),
    )
    save_reconstruction("object.npz", inner)
    misfit = misfit_of("object.npz", scan)
    assert misfit.predicted.sum() == pytest.approx(2 * misfit.photons.sum(), rel=0.02)
    assert misfit.ratio > 5


def test_an_object_file_is_taken_with_the_positions_that_its_method_has_refined(scan):
    """Of the exposures that it used alone."""
    used = np.arange(0, len(scan), 2)
    x, y = scan.xcoords[used], scan.ycoords[used]
    told = replace(scan, xcoords=scan.xcoords + 1.5, ycoords=scan.ycoords[::-1])
    positions = RefinedPositions(exposures=used, xcoords=x, ycoords=y, x_shift=x - x, y_shift=y - y)
    obj = scan.object[...]
    result = Reconstruction(
        object=obj, illumination=np.abs(obj), origin_px=(0, 0), refined=Refined(positions=positions)
    )
    save_reconstruction("object.npz", result)
    candidate = read_candidate("object.npz", told)
    np.testing.assert_array_equal(candidate.exposures, used)
    assert judge(candidate, told).misfit.ratio < 1.1
    save_reconstruction(
        "foreign.npz", replace(result, refined=Refined(positions=replace(positions, exposures=used + 9)))
    )
    with pytest.raises(ContractError, match=r"foreign\.npz: positions of exposures 9 to 57; .* has 49 exposures"):
        read_candidate("foreign.npz", told)


def test_more_than_shot_noise_explains_is_said_and_less_is_not(scan):
    obj = scan.object[...]
    np.savez("truth.npz", object=obj)
    np.savez("blurred.npz", object=np.full_like(obj, np.abs(obj).mean()))
    save_view("view.npz", view_of(scan))
    assert main(["judge", str(scan.path), "truth.npz", "blurred.npz", "--view", "view.npz"]) == 0
    text = Path("scan_judge.txt").read_text(encoding="utf-8")
    n_holdout = len(view_of(scan).of_role(HOLDOUT))
    assert f": all {n_holdout} holdout exposures of view.npz\n" in text
    assert "WARNING: blurred.npz" in text
    assert "WARNING: truth.npz" not in text
    numbers = json.loads(Path("scan_judge.json").read_text(encoding="utf-8"))
    assert [number["exposures"] for number in numbers] == [n_holdout] * 2
    assert numbers[1]["misfit"] > numbers[1]["explained_by_shot_noise"] > 1
    assert np.asarray(Image.open("scan_judge.png").convert("RGB")).std() > 5


def test_files_of_one_name_are_told_apart_and_another_dose_is_said(scan, capsys):
    for method, factor in (("tv", 1), ("lsqml", 2)):
        Path("test", method).mkdir(parents=True)
        probe = (scan.probe / np.sqrt(factor)).astype(np.complex64)
        obj = scan.object[...]
        result = {"object": obj, "illumination": np.ones(obj.shape), "origin_px": (0, 0)}
        save_reconstruction(f"test/{method}/object.npz", Reconstruction(**result, refined=Refined(probe=probe)))
    assert main(["judge", str(scan.path), "test/tv/object.npz", "test/lsqml/object.npz"]) == 0
    printed = capsys.readouterr().out
    assert "\n   tv/object.npz " in printed
    assert "\nWARNING: lsqml/object.npz" in printed
    assert "\nlsqml/object.npz: predicts 0.501 times the photons that were counted: another dose" in printed
    assert "\ntv/object.npz: predicts" not in printed


def test_a_file_that_is_given_twice_has_two_names():
    assert short_names([Path("a.npz"), Path("b.npz")]) == ["a.npz", "b.npz"]
    assert short_names([Path("a.npz"), Path("a.npz"), Path("b.npz")]) == ["a.npz (1)", "a.npz (2)", "b.npz"]


def test_exposures_that_an_object_does_not_cover_are_not_judged(scan, capsys):
    """Of the truth the left part: what lies in it is predicted as by all of it, the rest not at all."""
    obj = scan.object[...]
    columns = int(np.median(scan.xcoords)) + 32
    np.savez("left.npz", object=obj[:, :columns], origin_px=[0, 0])
    np.savez("all.npz", object=obj, origin_px=[0, 0])
    part = judge(read_candidate("left.npz", scan), scan)
    exposures = part.candidate.exposures
    assert (scan.xcoords[exposures] + 8 < columns).all()
    assert set(np.flatnonzero(scan.xcoords + 32 < columns)) <= set(exposures) < set(range(len(scan)))
    assert part.misfit.ratio == pytest.approx(misfit_of("all.npz", scan, exposures=exposures).ratio, rel=0.02)
    note = rf"{columns} px, does not cover the scan, .* judged are the {len(exposures)} of {len(scan)} exposures"
    assert re.search(note, part.candidate.notes[-1])
    count, chosen = len(exposures), [int(exposures[0]), *np.setdiff1d(np.arange(len(scan)), exposures)[:3].tolist()]
    for files, options, heading in (
        (["left.npz"], [], f"{count} of {len(scan)} exposures of the scan, whether fitted or not"),
        (["left.npz", "all.npz"], [], f"{count} to {len(scan)} of {len(scan)} exposures of the scan"),
        (["all.npz"], [], f"all {len(scan)} exposures of the scan"),
        (["left.npz"], ["--exposures", ",".join(map(str, chosen))], "1 of 4 chosen exposures"),
    ):
        assert main(["judge", str(scan.path), *files, *options]) == 0
        assert capsys.readouterr().out.startswith(f"{scan.path}: {heading}")
    np.savez("small.npz", object=obj[:8, :8], origin_px=[55, 55])
    assert main(["judge", str(scan.path), "small.npz"]) == 2
    assert "does not cover the scan" in capsys.readouterr().err


def test_fewer_positions_than_exposures_say_which_they_are_taken_as(scan):
    np.savez("ten.npz", object=scan.object[...], xcoords=scan.xcoords[:10], ycoords=scan.ycoords[:10])
    candidate = read_candidate("ten.npz", scan)
    assert "positions of the file: 10, taken as those of exposures 0-9 of 49" in candidate.notes[0]


def test_objects_and_views_of_another_scan_are_refused(scan, capsys):
    np.savez("part.npz", object=scan.object[10:-10], origin_px=[200, 0])
    with pytest.raises(ContractError, match=r"the object spans 200 to .*: wanted the scan that it was reconstructed"):
        read_candidate("part.npz", scan)
    view = view_of(scan)
    view.metadata["counts"]["exposures_of_scan"] = 30
    save_view("view.npz", view)
    np.savez("truth.npz", object=scan.object[...])
    assert main(["judge", str(scan.path), "truth.npz", "--view", "view.npz"]) == 2
    assert "view.npz: a view of a scan of 30 exposures, " in capsys.readouterr().err


def test_exposures_that_do_not_fit_are_named(scan, capsys):
    far = np.where(np.arange(49) == 11, 400, 0) + scan.xcoords
    np.savez("truth.npz", object=scan.object[...], xcoords=far, ycoords=scan.ycoords)
    with pytest.raises(ContractError, match="x-positions"):
        read_candidate("truth.npz", scan)
    moved = np.where(np.arange(49) == 11, 9, 0) + scan.xcoords
    np.savez("truth.npz", object=scan.object[...], xcoords=moved, ycoords=scan.ycoords, origin_px=[0, 0])
    assert main(["judge", str(scan.path), "truth.npz", "--output", "out/moved"]) == 0
    assert "exposures with the highest misfit: 11 (" in capsys.readouterr().out
    assert main(["judge", str(scan.path), "truth.npz", "--exposures", "0-10,12-48", "--output", "out/rest"]) == 0
    assert "highest" not in capsys.readouterr().out


def test_halves_of_the_photons_agree_where_photons_are_enough(scan):
    np.savez("truth.npz", object=np.ones_like(scan.object[...]))
    curves = judge(read_candidate("truth.npz", scan), scan, with_halves=True).curves
    low = curves[(curves["part"] == "phase") & curves["frequency"].between(0.1, 0.3)]
    assert low["frc"].mean() > 0.7


def test_the_detector_of_the_scan_belongs_to_the_prediction(scan):
    """Gaps filled with anything, flux and background: the truth still has a misfit of one."""
    rng, bad = np.random.default_rng(0), np.zeros((64, 64), bool)
    bad[20:23], flux, background = True, rng.uniform(0.5, 1.5, len(scan)), np.full((64, 64), 0.2, np.float32)
    detector = Detector(bad_pixels=bad, exposure_scale=flux, background=background)
    mean = predict_intensity(scan.object[...], scan.probe, scan.xcoords, scan.ycoords)
    counts = rng.poisson(detector.expected_counts(mean))
    np.savez("truth.npz", object=scan.object[...], probe=3 * scan.probe, origin_px=[0, 0])
    misfits = []
    for filler in (0, 7):
        frames = MaskedFrames(np.sqrt(np.where(bad, filler, counts)).astype(np.float32), bad)
        judgment = judge(read_candidate("truth.npz", scan), replace(scan, diffraction=frames, detector=detector))
        misfits.append(judgment.misfit)
    assert misfits[0].as_dict() == misfits[1].as_dict()
    assert misfits[0].n_valid == 64 * 61
    assert misfits[0].ratio == pytest.approx(1, abs=4 * misfits[0].standard_error)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"object": np.full((80, 80), np.nan + 0j)}, "the object holds 6400 values that are not finite"),
        ({"object": np.zeros((80, 80), complex)}, "the object is 0 everywhere"),
        ({"object": np.ones((80, 80))}, "the object is float64; wanted complex"),
        ({"object": np.ones((3, 80, 80), complex)}, r"'object' has shape \(3, 80, 80\); wanted \(H, W\)"),
        (
            {"object": np.ones((80, 80), complex), "probe": np.ones((32, 32), complex)},
            r"a probe of shape \(1, 32, 32\)",
        ),
        ({"x": np.ones(3)}, "no key 'objectGuess' or 'object'; found"),
        (
            {"object": np.ones((80, 80), complex), "xcoords": np.ones(90), "ycoords": np.ones(90)},
            "positions of exposures 0 to 89; .* has 49 exposures",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_line(scan, arrays, message):
    np.savez("bad.npz", **arrays)
    with pytest.raises(ContractError, match=f"bad.npz: .*{message}"):
        read_candidate("bad.npz", scan)


def test_a_damaged_or_foreign_product_is_refused_in_a_line(scan, tmp_path):
    write_product("cut.h5", scan, center=lambda size: size / 2)
    content = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ContractError, match=r"cut.h5: not an HDF5 file, cut short or damaged"):
        read_candidate("cut.h5", scan)
    with h5py.File("other.cxi", "w") as file:
        file["entry"] = 1
    with pytest.raises(ContractError, match=r"other.cxi: no key 'object'; found \['entry'\]"):
        read_candidate("other.cxi", scan)
    with pytest.raises(ContractError, match=r"none.h5: no such file"):
        read_candidate("none.h5", scan)


def test_links_to_other_folders_are_followed_by_the_option_that_the_refusal_names(scan, tmp_path, capsys):
    Path("inside").mkdir()
    write_product("product.h5", scan, center=lambda size: size / 2)
    with h5py.File("inside/linked.h5", "w") as file:
        for key in ("object", "probe", "probe_position_x_m", "probe_position_y_m"):
            file[key] = h5py.ExternalLink("../product.h5", key)
    command = ["judge", str(scan.path), "inside/linked.h5", "--exposures", "0-9"]
    assert main(command) == 2
    assert f"'object' is in another folder, in {tmp_path / 'product.h5'}" in (
        refusal := capsys.readouterr().err.replace("inside/../", "")
    )
    assert main([*command, refusal.split("; ")[-1].split()[0]]) == 0


def test_a_list_of_exposures_is_read():
    assert parse_exposures("5,17-19, 6", 20).tolist() == [5, 6, 17, 18, 19]
    for text, message in (("5-", "no number or range"), ("3,20", "there are 20, 0 to 19"), ("7-3", "7-3")):
        with pytest.raises(ValueError, match=message):
            parse_exposures(text, 20)
