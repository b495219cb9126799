"""Converts tiny random models of every kind and looks at what comes out. Takes torch: `python -m unittest` in this folder.

Where FALGATE names falgate's program (or target/debug has it), the engine opens and runs every result too."""
import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto as TP, helper, numpy_helper

import checker
import convert
import graphs
import tiny
from check import Session, deviation, part_inputs
from progress import Refusal

HERE = pathlib.Path(__file__).resolve().parent


def falgate():
    """The program, if it is here."""
    named = os.environ.get("FALGATE")
    return named or next((str(path) for path in [HERE.parents[1] / "target/debug/falgate"] if path.exists()), None)


def quietly(*given):
    """Runs a conversion; what it says is shown only when it fails."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            convert.main([str(word) for word in given])
    except Refusal:
        raise
    except BaseException:
        print(said.getvalue())
        raise
    return said.getvalue()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


class Conversions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        cls.place = tempfile.TemporaryDirectory()
        cls.here = pathlib.Path(cls.place.name)
        cls.lcm = tiny.diffusers_folder(cls.here / "lcm")
        cls.plain = tiny.diffusers_folder(cls.here / "sd", guided=False)
        cls.taesd = tiny.taesd_folder(cls.here / "taesd")
        cls.ready = cls.here / "ready"
        quietly(cls.lcm, "--out", cls.ready, "--taesd", cls.taesd, "--cuda")

    @classmethod
    def tearDownClass(cls):
        cls.place.cleanup()

    def out(self):
        return self.here / f"out-{self.id().rsplit('.', 1)[-1]}"

    def refused(self, *given):
        out = self.out()
        before = set(self.here.iterdir())
        with self.assertRaises(Refusal) as caught:
            quietly(*given, "--out", out)
        self.assertEqual(set(self.here.iterdir()), before, "something was left behind")
        return str(caught.exception)

    def served(self, folder, serves=True):
        """The engine opens the folder, believes its hashes, and paints."""
        program = falgate()
        if not program:
            print("not run by the engine: falgate is not built (cargo build)", file=sys.stderr)
            return
        looked = subprocess.run([program, "model", "inspect", folder, "--hashes", "--json"], capture_output=True, text=True)
        report = json.loads(looked.stdout)
        self.assertEqual(report["serves"], serves, looked.stdout)
        self.assertEqual(report["manifest"]["differs"], [])
        if serves:
            bench = [program, "model", "bench", folder, "--json", "--rounds", "1", "--batch", "1,2", "--size", "64"]
            done = subprocess.run(bench, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["rows"][0]["part"], "text_encoder")

    # --- torch sources

    def test_a_diffusers_folder_becomes_four_variants(self):
        self.assertEqual(sorted(path.name for path in self.ready.iterdir()), ["cpu", "cpu-taesd", "cuda", "cuda-taesd"])
        for variant in self.ready.iterdir():
            said = manifest(variant)
            self.assertEqual((said["format"], said["variant"], said["guidance"]), ("falgate-model/1", variant.name, "embedding"))
            self.assertIn("openrail", said["licence"])
            self.assertEqual(len(said["checks"]), 5)
            unet = {port["name"]: port for port in said["parts"]["unet"]["inputs"]}
            self.assertEqual((unet["timestep"]["element"], unet["timestep"]["shape"]), ("float32", ["batch_size"]))
            half = "float16" if variant.name.startswith("cuda") else "float32"
            self.assertEqual((unet["sample"]["element"], said["precision"]), (half, half))
            self.assertTrue(all((variant / name).stat().st_size == file["bytes"] for name, file in said["files"].items()))
        self.assertIn("NhwcConv", manifest(self.ready / "cuda")["parts"]["unet"]["operators"])
        self.assertEqual(manifest(self.ready / "cpu")["parts"]["unet"]["operators"], [])
        self.assertEqual(manifest(self.ready / "cpu-taesd")["source"]["taesd"]["name"], "taesd")
        same = [(self.ready / name / "unet/model.onnx").stat().st_ino for name in ("cpu", "cpu-taesd")]
        self.assertEqual(same[0], same[1], "the unet is on the disk twice")

    def test_large_graphs_have_their_weights_beside_them_and_share_them(self):
        out = self.out()
        with unittest.mock.patch.object(graphs, "INSIDE_AT_MOST", 1000):
            quietly(self.lcm, "--out", out, "--taesd", self.taesd, "--cuda")
        places = [(out / name / "unet/model.onnx_data") for name in ("cpu", "cpu-taesd", "cuda", "cuda-taesd")]
        self.assertEqual([place.stat().st_nlink for place in places], [2, 2, 2, 2])
        self.served(out / "cpu-taesd")

    def test_the_engine_serves_what_runs_on_a_cpu_and_says_of_the_rest_that_it_is_for_cuda(self):
        self.served(self.ready / "cpu")
        self.served(self.ready / "cpu-taesd")
        self.served(self.ready / "cuda", serves=False)

    def test_a_single_file_gives_the_same_model_as_its_diffusers_folder(self):
        path, out = tiny.checkpoint(self.here / "one.safetensors"), self.out()
        quietly(path, "--out", out, "--config", self.lcm)
        got, want = (Session(place / "cpu/unet/model.onnx").run(part_inputs(out / "cpu", side=8)["unet"]) for place in (out, self.ready))
        self.assertLess(deviation(got, want), 3e-2)  # the file is in half precision
        self.assertEqual(manifest(out / "cpu")["guidance"], "embedding")
        self.served(out / "cpu")

    def test_a_lora_is_merged_in_every_usual_spelling(self):
        for spelling in ("kohya", "peft"):
            path = self.here / f"{spelling}.safetensors"
            adds = tiny.lora_file(path, spelling)
            out = self.out().with_name(f"lora-{spelling}")
            said = quietly(self.plain, "--out", out, "--lora", path, "--lora-strength", "0.5")
            self.assertIn(f"{len(adds)} layers changed", said)
            weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(out / "cpu/unet/model.onnx").graph.initializer}
            before = tiny.networks(guided=False)[0].state_dict()
            name = next(name for name in adds if name.endswith("conv1"))
            got = next(value for key, value in weights.items() if key.endswith(f"{name}.weight"))
            np.testing.assert_allclose(got, (before[f"{name}.weight"] + 0.5 * adds[name]).numpy(), atol=1e-6)
            said = manifest(out / "cpu")
            self.assertEqual((said["guidance"], said["source"]["lora"]["strength"]), ("none", 0.5))
            self.assertNotIn("timestep_cond", [port["name"] for port in said["parts"]["unet"]["inputs"]])
        self.served(out / "cpu")

    # --- what cannot be converted

    def test_a_model_that_nobody_distilled_is_refused(self):
        self.assertIn("add an LCM LoRA with --lora FILE", self.refused(self.plain))

    def test_a_lora_for_another_model_is_refused(self):
        path = self.here / "other.safetensors"
        tiny.save_file({"lora_unet_nowhere.lora_down.weight": torch.zeros(1, 1)}, str(path))
        self.assertIn("the LoRA is for another model", self.refused(self.plain, "--lora", path))
        tiny.save_file({"lora_unet_x.dora_scale": torch.zeros(1)}, str(path))
        self.assertIn("another kind of adapter", self.refused(self.plain, "--lora", path))

    def test_missing_and_cut_off_files_are_named(self):
        self.assertIn("does not exist", self.refused(self.here / "nowhere"))
        path = tiny.checkpoint(self.here / "cut.safetensors")
        path.write_bytes(path.read_bytes()[:5000])
        self.assertIn("cut.safetensors cannot be read as safetensors", self.refused(path, "--config", self.lcm))
        folder = self.here / "partial"
        shutil.copytree(self.lcm, folder)
        (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
        self.assertIn("holds no .safetensors", self.refused(folder))
        self.assertIn("a LoRA goes with --lora", self.refused_lora_as_source())

    def refused_lora_as_source(self):
        path = self.here / "a-lora.safetensors"
        tiny.lora_file(path, "kohya")
        return self.refused(path, "--config", self.lcm)

    def test_other_families_are_refused_by_name(self):
        for change, want in [({"cross_attention_dim": 1024}, "Stable Diffusion 2"), ({"in_channels": 9}, "9 channels")]:
            folder = self.here / f"other-{want.replace(' ', '-')}"
            shutil.copytree(self.lcm, folder)
            config = json.loads((folder / "unet/config.json").read_text())
            (folder / "unet/config.json").write_text(json.dumps({**config, **change}))
            if "in_channels" in change:
                unet = tiny.UNet2DConditionModel(**{**tiny.UNET, **change}, time_cond_proj_dim=16)
                unet.save_pretrained(folder / "unet")
            self.assertIn(want, self.refused(folder))
        folder = self.here / "xl"
        folder.mkdir()
        (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
        self.assertIn("SDXL", self.refused(folder))

    def test_a_folder_that_is_there_stays_unless_it_is_to_be_replaced(self):
        out = self.out()
        out.mkdir()
        (out / "mine").write_text("x")
        with self.assertRaisesRegex(Refusal, "--replace"):
            quietly(self.lcm, "--out", out)
        with self.assertRaises(Refusal):
            quietly(self.plain, "--out", out, "--replace")
        self.assertTrue((out / "mine").exists(), "a failed conversion took the old folder away")
        quietly(self.lcm, "--out", out, "--replace")
        self.assertEqual([path.name for path in out.iterdir()], ["cpu"])

    # --- published ONNX folders

    def judges(self, folder, module):
        """The folder's checker says of each picture what torch says of it, and does not say the same of all."""
        pictures = checker.prepared(32)
        with torch.no_grad():
            want = module.forward_onnx(torch.from_numpy(pictures), torch.zeros(len(pictures), 1, 1, 3))[1].numpy()
        self.assertEqual(set(want), {False, True})
        session = Session(folder / "safety_checker/model.onnx")
        self.assertEqual([port["name"] for port in session.ports["inputs"]], ["clip_input"])
        self.assertEqual(list(session.run_graph.run(["has_nsfw_concepts"], {"clip_input": pictures})[0]), list(want))

    def with_checker(self, name):
        """The tiny model with a checker, and the checker in torch."""
        folder = shutil.copytree(self.lcm, self.here / name)
        return folder, checker.load(tiny.checker_folder(folder))

    def test_a_safety_checker_comes_along_in_single_precision_and_judges_as_torch_does(self):
        folder, module = self.with_checker("lcm-judged")
        out = self.out()
        quietly(folder, "--out", out, "--cuda")
        for variant in ("cpu", "cuda"):
            self.judges(out / variant, module)
            said = manifest(out / variant)
            ports = said["parts"]["safety_checker"]
            self.assertEqual((ports["inputs"][0]["element"], ports["outputs"][0]["element"]), ("float32", "bool"))
            self.assertEqual(said["checks"][-1]["deviation"], 0)
            self.assertEqual(list(said["source"]["safety_checker"]["files"]), ["model.safetensors"])
            self.assertIn("feature_extractor/preprocessor_config.json", said["files"])
            self.assertTrue(json.loads((out / variant / "model_index.json").read_text())["requires_safety_checker"])
        self.served(out / "cpu")
        left_out = self.here / "left-out"
        quietly(folder, "--out", left_out, "--safety-checker", "none")
        self.assertFalse((left_out / "cpu/safety_checker").exists())
        named = self.here / "named"
        quietly(self.lcm, "--out", named, "--safety-checker", folder / "safety_checker")
        self.judges(named / "cpu", module)

    def test_what_is_no_checker_is_refused(self):
        folder, _ = self.with_checker("lcm-misjudged")
        (folder / "safety_checker/model.safetensors").rename(folder / "safety_checker/pytorch_model.bin")
        self.assertIn("other weights can run code", self.refused(folder))
        (folder / "safety_checker/config.json").write_text('{"architectures": ["CLIPModel"]}')
        self.assertIn("holds CLIPModel", self.refused(folder))
        self.assertIn("does not exist", self.refused(self.lcm, "--safety-checker", self.here / "nowhere"))

    def test_a_published_checker_judges_alone_from_then_on(self):
        folder = self.published("judged")
        _, module = self.with_checker("lcm-published")
        place = folder / "safety_checker"
        place.mkdir()
        axes = {"clip_input": {0: "batch", 1: "channels", 2: "height", 3: "width"}, "images": {0: "batch", 1: "height", 2: "width", 3: "channels"}}
        module.vision_model.set_attn_implementation("eager")
        module.forward = module.forward_onnx
        # As the published ones were exported: the graph blackens pictures, and fails for several.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (torch.randn(1, 3, 32, 32), torch.randn(1, 64, 64, 3)), str(place / "model.onnx"), dynamic_axes=axes,
                              input_names=list(axes), output_names=["out_images", "has_nsfw_concepts"], opset_version=14, dynamo=False)
        shutil.copytree(self.here / "lcm-published/feature_extractor", folder / "feature_extractor")
        out = self.out()
        quietly(folder, "--out", out)
        self.judges(out / "cpu", module)
        self.served(out / "cpu")

    def published(self, name, variant="cpu"):
        folder = self.here / name
        shutil.copytree(self.ready / variant, folder)
        (folder / "manifest.json").unlink()
        return folder

    def test_late_2023_exports_single_precision_int64_timestep_one_sidecar(self):
        folder = self.published("late-2023")
        edit(folder / "unet", lambda proto: scalar_timestep(proto, TP.INT64), sidecar="model.onnx_data")
        self.converted(folder)

    def test_half_precision_with_a_float_timestep_and_no_encoder(self):
        folder = self.published("no-encoder")
        for part in ("text_encoder", "unet", "vae_decoder"):
            edit(folder / part, halved)
        edit(folder / "unet", lambda proto: scalar_timestep(proto, TP.FLOAT16))
        shutil.rmtree(folder / "vae_encoder")
        self.assertIn("no vae_encoder, so it can draw from words alone", self.refused(folder))
        self.converted(folder, "--taesd-onnx", self.ready / "cpu-taesd")

    def test_fused_graphs_become_a_variant_for_cuda_alone(self):
        out = self.out()
        quietly(self.published("fused", "cuda"), "--out", out)
        self.assertEqual([path.name for path in out.iterdir()], ["cuda"])
        self.assertIn("no variant for the CPU", manifest(out / "cuda")["notes"][0])
        self.served(out / "cuda", serves=False)

    def test_half_precision_with_sidecars_under_either_name(self):
        for name in ("model.onnx_data", "model.onnx.data"):
            folder = self.published(f"half-{name[-5:]}")
            for part in ("text_encoder", "unet", "vae_encoder", "vae_decoder"):
                edit(folder / part, halved, sidecar=name)
            self.converted(folder, out=self.out().with_name(f"sidecar-{name[-5]}"))
        other = folder / "unet/model.onnx_data"
        (folder / "unet/model.onnx.data").rename(other)  # as some publishers rename it, and leave the graph as it is
        self.converted(folder, out=self.out().with_name("sidecar-renamed"))
        other.write_bytes(other.read_bytes()[:1000])
        self.assertIn("cut off", self.refused(folder))
        other.unlink()
        self.assertIn("fetch that file too", self.refused(folder))

    def test_old_optimum_timestep_as_a_list_and_an_encoder_that_draws_noise(self):
        folder = self.published("old-optimum")
        edit(folder / "unet", steps_timestep)
        edit(folder / "vae_encoder", sampling)
        out = self.converted(folder)
        self.assertIn("draws its own noise", manifest(out / "cpu")["notes"][0])

    def test_published_folders_of_other_families_are_refused(self):
        folder = self.published("sdxl-unet")
        edit(folder / "unet", lambda proto: proto.graph.input.append(helper.make_tensor_value_info("text_embeds", TP.FLOAT, ["b", 1280])))
        self.assertIn("that is an SDXL model", self.refused(folder))
        (folder / "unet/model.onnx").write_bytes(b"\x08\x0a")
        self.assertIn("the UNet has no input", self.refused(folder))

    def converted(self, folder, *more, out=None):
        """Converts a published folder, and compares its UNet with the one that it was made from."""
        out = out or self.out()
        quietly(folder, "--out", out, *more)
        inputs = part_inputs(out / "cpu", side=8)["unet"]
        got, want = (Session(place / "cpu/unet/model.onnx").run(inputs) for place in (out, self.ready))
        self.assertLess(deviation(got, want), 3e-2)
        self.assertGreater(np.abs(got[0] - got[1]).max(), 0.1)
        self.served(out / "cpu")
        return out


def edit(folder, change, sidecar=None):
    """Changes a graph in place; `sidecar`: the file that its weights go to."""
    proto = graphs.load(folder / "model.onnx")
    change(proto)
    for file in folder.glob("model.onnx*"):
        file.unlink()
    onnx.save_model(proto, str(folder / "model.onnx"), save_as_external_data=bool(sidecar), location=sidecar, size_threshold=1024)


def halved(proto):
    from onnxruntime.transformers.float16 import convert_float_to_float16
    proto.CopyFrom(convert_float_to_float16(proto, disable_shape_infer=True))


def scalar_timestep(proto, element):
    """`timestep` as one number for all rows, of another type."""
    value = next(value for value in proto.graph.input if value.name == "timestep")
    del value.type.tensor_type.shape.dim[:]
    was, value.type.tensor_type.elem_type = value.type.tensor_type.elem_type, element
    for node in proto.graph.node:
        node.input[:] = ["timestep_list" if name == "timestep" else name for name in node.input]
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "timestep_axis"))
    proto.graph.node.insert(0, helper.make_node("Cast", ["timestep_expanded"], ["timestep_list"], to=was))
    proto.graph.node.insert(0, helper.make_node("Unsqueeze", ["timestep", "timestep_axis"], ["timestep_expanded"]))


def steps_timestep(proto):
    """`timestep` as an int64 list that is called steps."""
    value = next(value for value in proto.graph.input if value.name == "timestep")
    value.type.tensor_type.shape.dim[0].dim_param = "steps"
    value.type.tensor_type.elem_type = TP.INT64
    for node in proto.graph.node:
        node.input[:] = ["timestep_float" if name == "timestep" else name for name in node.input]
    proto.graph.node.insert(0, helper.make_node("Cast", ["timestep"], ["timestep_float"], to=TP.FLOAT))


def sampling(proto):
    """An encoder that gives latents, drawn inside the graph."""
    graph = proto.graph
    inner = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["moments" if name == inner else name for name in node.output]
    consts = {"zero": [0], "four": [4], "eight": [8], "one": [1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(value, np.int64), name) for name, value in consts.items())
    graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    graph.node.extend([
        helper.make_node("Slice", ["moments", "zero", "four", "one"], ["mean"]),
        helper.make_node("Slice", ["moments", "four", "eight", "one"], ["log"]),
        helper.make_node("Mul", ["log", "half"], ["halved"]), helper.make_node("Exp", ["halved"], ["std"]),
        helper.make_node("RandomNormalLike", ["std"], ["noise"]), helper.make_node("Mul", ["noise", "std"], ["drawn"]),
        helper.make_node("Add", ["mean", "drawn"], ["latent_sample"])])
    graph.output[0].name = "latent_sample"
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4


if __name__ == "__main__":
    unittest.main()
