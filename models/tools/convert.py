#!/usr/bin/env python3
"""Makes folders that falgate's engine serves from a model of the Stable Diffusion 1.5 family with few steps.

SOURCE is on this machine: a diffusers folder, a single-file checkpoint (.safetensors), or a published ONNX folder. Each folder
below --out is complete: name it in engine.model. `cpu` runs anywhere; `cuda` (with --cuda) on NVIDIA GPUs only; `cpu-taesd` and
`cuda-taesd` (with --taesd) have the small autoencoder. Nothing is left behind when something fails."""
import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile

# Nothing is fetched, and what the libraries say of themselves helps nobody here.
os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1", DIFFUSERS_VERBOSITY="error")

import checker  # noqa: E402
import graphs  # noqa: E402
import manifest  # noqa: E402
from progress import Progress, Refusal, note  # noqa: E402

VERSION = 1
VAE = ("vae_encoder", "vae_decoder")


def arguments(given=None):
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("source", metavar="SOURCE")
    ap.add_argument("--out", required=True, metavar="DIR", help="folder to make; must not exist, unless --replace is given")
    ap.add_argument("--lora", metavar="FILE", help="merge this LCM LoRA (.safetensors)")
    ap.add_argument("--lora-strength", type=float, default=1.0, metavar="FACTOR")
    ap.add_argument("--merged", action="store_true", help="an LCM LoRA is merged into SOURCE already")
    ap.add_argument("--config", metavar="DIR", help="for a single file: folder with the tokenizer, and configurations if they differ from "
                    "Stable Diffusion 1.5's")
    ap.add_argument("--taesd", metavar="DIR", help="also make variants with this AutoencoderTiny (diffusers folder)")
    ap.add_argument("--taesd-onnx", metavar="DIR", help="for a published folder without vae_encoder: folder with vae_encoder and vae_decoder")
    ap.add_argument("--safety-checker", metavar="DIR", help="folder of a StableDiffusionSafetyChecker, if not the one in SOURCE; none leaves "
                    "it out")
    ap.add_argument("--cuda", action="store_true", help="also make the variant for NVIDIA GPUs")
    ap.add_argument("--licence", metavar="TEXT", help="what the manifest says of the licence")
    ap.add_argument("--replace", action="store_true", help="replace --out once the new folder is complete")
    return ap.parse_args(given)


def versions():
    import importlib.metadata as metadata
    names = ("torch", "diffusers", "transformers", "onnx", "onnxruntime")
    return {"falgate model tools": VERSION, **{name: metadata.version(name) for name in names}}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def settle(folder, tokenizer, scheduler):
    """What a folder needs beside its parts."""
    from sources import TOKENIZER
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / "tokenizer" / name)
    write_json(folder / "scheduler/scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", {
        "_class_name": "LatentConsistencyModelImg2ImgPipeline", "feature_extractor": [None, None], "image_encoder": [None, None],
        "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", "LCMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})


def shared(source, target, parts):
    """Gives a variant the parts that it has in common with another: the same files where the disk can, copies elsewhere."""
    for part in parts:
        for file in (source / part).iterdir():
            (target / part).mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, target / part / file.name)
            except OSError:
                shutil.copyfile(file, target / part / file.name)


class Conversion:
    """One run: where it writes, how far it is, and what it has found out."""

    def __init__(self, options, work):
        self.options, self.work, self.checks, self.facts = options, work, {}, {}
        self.tiny_facts = None
        self.judge, self.judged = checker.place_of(options.source, options), []
        variants = (2 if options.cuda else 1) * (2 if options.taesd else 1)
        self.progress = Progress(5 + variants + 2 * bool(options.taesd) + (4 + 2 * bool(options.taesd)) * options.cuda + variants
                                 + bool(self.judge))

    def stage(self, what):
        return self.progress.stage(what)

    def run(self):
        import sources
        kind = sources.kind_of(self.options.source)
        if kind == "onnx":
            return self.from_onnx(pathlib.Path(self.options.source))
        if self.options.taesd_onnx:
            raise Refusal("--taesd-onnx goes with a published ONNX folder; with torch weights take --taesd")
        with self.stage(f"reading the {'diffusers folder' if kind == 'diffusers' else 'checkpoint'}"):
            read = sources.from_diffusers if kind == "diffusers" else sources.from_checkpoint
            model = read(self.options.source, self.options)
            tiny = sources.taesd(self.options.taesd) if self.options.taesd else None
            judge = checker.load(self.judge) if self.judge else None
        if self.options.lora:
            note(f"{model.source['lora']['layers']} layers changed by the LoRA")
        self.facts = {"source": model.source, "licence": model.licence, "notes": [],
                      "guidance": "embedding" if model.unet.config.time_cond_proj_dim else "none"}
        self.export(model, model.vae, "cpu")
        if judge:
            self.add_checker("cpu", lambda: checker.export(judge), lambda path: checker.compare(judge, path))
        if tiny:
            self.export_tiny(tiny)
        for variant, vae in [("cpu", model.vae)] + ([("cpu-taesd", tiny[0])] if tiny else []):
            self.compare(model, vae, (variant, variant))
        if self.options.cuda:
            self.fuse("cpu", "cuda")
            self.compare(model, model.vae, ("cpu", "cuda"))
            if tiny:
                self.fuse("cpu-taesd", "cuda-taesd")
                self.compare(model, tiny[0], ("cpu-taesd", "cuda-taesd"))

    def export(self, model, vae, variant):
        import export
        folder = self.work / variant
        plan = {"text_encoder": model.text_encoder, "unet": model.unet, "vae_encoder": vae, "vae_decoder": vae}
        for part, module in plan.items():
            with self.stage(f"exporting {part}"):
                graphs.save(getattr(export, part)(module), folder / part / "model.onnx")
                module.config.save_pretrained(folder / part) if part == "text_encoder" else module.save_config(folder / part)
        settle(folder, model.tokenizer, model.scheduler)

    def add_checker(self, variant, graph, compare):
        """The safety checker beside the parts of a variant; the others take it from there, in single precision too."""
        folder = self.work / variant
        with self.stage(f"exporting and checking {checker.PART}"):
            graphs.save(graph(), folder / checker.PART / "model.onnx")
            checker.settle(self.judge, folder)
            print(file=sys.stderr)
            self.judged = compare(folder / checker.PART / "model.onnx")
        self.facts["source"][checker.PART] = {"name": self.judge.resolve().name, "files": manifest.hashes(self.judge, checker.weights(self.judge))}

    def export_tiny(self, tiny):
        """The folder with the small autoencoder: the rest is that of `cpu`."""
        import export
        vae, self.tiny_facts = tiny
        folder = self.work / "cpu-taesd"
        for part in VAE:
            with self.stage(f"exporting {part} of TAESD"):
                graphs.save(getattr(export, part)(vae), folder / part / "model.onnx")
                vae.save_config(folder / part)
        self.complete("cpu", "cpu-taesd", ("text_encoder", "unet"))

    def complete(self, source, target, parts):
        source, target = self.work / source, self.work / target
        shared(source, target, [*parts, *(part for part in (checker.PART, checker.PREPARATION) if (source / part).is_dir())])
        for name in ("tokenizer", "scheduler"):
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        shutil.copyfile(source / "model_index.json", target / "model_index.json")

    def fuse(self, source, target):
        """A folder for CUDA from one for the CPU. Parts that another folder for CUDA has are taken from there."""
        import cuda
        done = ("text_encoder", "unet") if target == "cuda-taesd" else ()
        for part in cuda.KINDS:
            if part in done:
                continue
            with self.stage(f"fusing {part} for CUDA"):
                counts = cuda.write(self.work / source, self.work / target, part)
                for file in (self.work / source / part).glob("*.json"):
                    shutil.copyfile(file, self.work / target / part / file.name)
            note(", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing was fused")
        self.complete(source, target, ())
        if done:
            shared(self.work / "cuda", self.work / target, done)

    def compare(self, model, vae, folders):
        """Checks the second folder against torch; inputs are named by the first, whose graphs are the plain ones."""
        import check
        plain, variant = folders
        half = variant.startswith("cuda")
        with self.stage(f"checking {variant} against torch"):
            print(file=sys.stderr)
            inputs = check.part_inputs(self.work / plain, side=8)
            want = check.torch_outputs(model, vae, inputs)
            found = check.parts(self.work / variant, want, inputs, check.HALF if half else check.SINGLE)
            levels = check.HALF_LEVELS if half else check.SINGLE_LEVELS
            self.checks[variant] = [*found, check.picture(self.work / variant, model, vae, levels)]

    def from_onnx(self, path):
        import check
        import published
        options = self.options
        if options.lora or options.config or options.taesd:
            raise Refusal("--lora, --config and --taesd need torch weights: a LoRA cannot be merged into a published graph")
        with self.stage("reading the published folder"):
            folders = published.survey(path, options)
            source, licence, scheduler = published.facts(path, folders, options)
            guided = "timestep_cond" in [port["name"] for port in published.ports_at(folders["unet"] / "model.onnx")["inputs"]]
            if not guided and scheduler.get("_class_name") != "LCMScheduler" and not options.merged:
                raise Refusal("nothing says that this is a consistency model (no timestep_cond, no LCMScheduler): if an LCM LoRA is "
                              "merged into it, say --merged")
            fused = [part for part, folder in folders.items() if published.is_fused(folder.parent, folder.name)]
        variant = "cuda" if fused else "cpu"
        self.facts = {"source": source, "licence": licence, "guidance": "embedding" if guided else "none", "notes": []}
        if fused:
            self.facts["notes"].append(f"published with operators for GPUs alone ({', '.join(fused)}): there is no variant for the CPU")
            note(self.facts["notes"][-1])
        for part, folder in folders.items():
            with self.stage(f"rewriting {part}"):
                proto = published.normal(part, graphs.load(folder / "model.onnx"))
                graphs.save(proto if fused else graphs.single_precision(proto), self.work / variant / part / "model.onnx")
        settle(self.work / variant, *published.copy_settings(path, folders, self.work / variant, scheduler))
        if self.judge:
            self.add_published_checker(variant)
        noisy = published.draws_noise(folders["vae_encoder"])
        if noisy:
            self.facts["notes"].append("vae_encoder draws its own noise: one seed gives different pictures")
            note(self.facts["notes"][-1] + "; export it again from the torch weights if that matters")
        inputs = check.part_inputs(self.work / variant, side=8)
        if noisy:
            del inputs["vae_encoder"]
        with self.stage(f"checking {variant} against the source"):
            print(file=sys.stderr)
            want = published.outputs_before({part: folders[part] for part in inputs}, inputs)
            self.checks[variant] = check.parts(self.work / variant, want, inputs, check.SINGLE)
        if options.cuda and not fused:
            self.fuse("cpu", "cuda")
            with self.stage("checking cuda against the source"):
                print(file=sys.stderr)
                self.checks["cuda"] = check.parts(self.work / "cuda", want, inputs, check.HALF)

    def add_published_checker(self, variant):
        if not (self.judge / "model.onnx").is_file():
            raise Refusal(f"{self.judge} has no model.onnx: fetch it, or leave the checker out with --safety-checker none")
        before = graphs.load(self.judge / "model.onnx")
        if graphs.vendor_operators(before):
            raise Refusal(f"{self.judge} has operators for GPUs alone: take a plain export, or leave it out with --safety-checker none")
        written = checker.judging(graphs.load(self.judge / "model.onnx"))
        self.add_checker(variant, lambda: graphs.single_precision(written), lambda path: checker.compare_published(before, path))

    def describe(self):
        """Writes the manifests, last: a folder with a manifest is whole."""
        for variant in sorted(self.checks):
            with self.stage(f"hashing {variant}"):
                gpu, tiny = variant.startswith("cuda"), variant.endswith("taesd")
                facts = {"name": pathlib.Path(self.options.out).name, "variant": variant, "provider": "cuda" if gpu else "cpu",
                         "precision": "float16" if gpu else "float32", "autoencoder": "taesd" if tiny else "full", **self.facts,
                         "tools": versions()}
                if tiny:
                    facts["source"] = {**self.facts["source"], "taesd": self.tiny_facts}
                manifest.write(self.work / variant, facts, [*self.checks[variant], *self.judged])


def publish(work, out, replace):
    """Puts the finished folder in its place, all at once."""
    old = None
    if out.exists() and replace:
        old = out.with_name(f".{out.name}.old-{os.getpid()}")
        out.rename(old)
    work.rename(out)
    if old:
        shutil.rmtree(old)


def main(given=None):
    options = arguments(given)
    out = pathlib.Path(options.out).absolute()
    if out.exists() and not options.replace:
        raise Refusal(f"{out} exists: name another folder, or say --replace")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        work = pathlib.Path(folder) / "model"
        work.mkdir()
        conversion = Conversion(options, work)
        conversion.run()
        conversion.describe()
        publish(work, out, options.replace)
    for variant in sorted(conversion.checks):
        size = sum(file.stat().st_size for file in (out / variant).rglob("*") if file.is_file())
        print(f"{out / variant}: {size / 1e6:.1f} MB")
    print(f"Look at one: falgate model inspect {out / sorted(conversion.checks)[0]} --hashes")


def run():
    try:
        main()
    except Refusal as refusal:
        sys.exit(f"convert: {refusal}")
    except KeyboardInterrupt:
        sys.exit("convert: stopped; nothing was written")


if __name__ == "__main__":
    run()
