"""The parts of the demo model: a latent consistency model of Stable Diffusion 1.5's layout, small, with a slim autoencoder."""
import math

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

TEXT = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=77,
            projection_dim=64, hidden_act="quick_gelu", layer_norm_eps=1e-5)
UNET = dict(sample_size=32, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(48, 64, 96, 96),
            norm_num_groups=16, cross_attention_dim=64, attention_head_dim=4, time_cond_proj_dim=32,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
VAE = dict(widths=(24, 48, 64), encoder_blocks=(0, 1, 2), decoder_blocks=(1, 1, 3))
SPREAD = 5.0        # of scaled latents: well above 1, so that a doodle is still seen under the noise of strength 0.8
SCHEDULER = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                 set_alpha_to_one=True, steps_offset=1, prediction_type="sample", original_inference_steps=50, timestep_scaling=10.0,
                 thresholding=False, rescale_betas_zero_snr=False, trained_betas=None)


class Block(nn.Module):
    """Two convolutions beside a straight path."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Encoder(nn.Module):
    """Pixels in [-1, 1] to means and log-variances, an eighth as wide and high. The first halving only moves pixels aside."""

    def __init__(self, widths, blocks):
        super().__init__()
        a, b, c = widths
        layers = [nn.PixelUnshuffle(2), nn.Conv2d(12, a, 3, padding=1), nn.ReLU(), *(Block(a) for _ in range(blocks[0]))]
        layers += [nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), *(Block(b) for _ in range(blocks[1]))]
        layers += [nn.Conv2d(b, c, 3, 2, 1), nn.ReLU(), *(Block(c) for _ in range(blocks[2])), nn.Conv2d(c, 8, 1)]
        self.layers = nn.Sequential(*layers)
        self.colour = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.layers[-1].weight.mul_(0.3)
            self.colour.weight.copy_(1.8 * torch.eye(4, 3).view(4, 3, 1, 1))
            self.colour.bias.zero_()

    def forward(self, sample):
        # Mean colours have a path of their own, so that the convolutions learn what mean colours lack.
        mean, spread = self.layers(sample).chunk(2, 1)
        mean = mean + self.colour(nn.functional.avg_pool2d(sample, 8))
        # The posterior is kept narrow: its standard deviation lies between 0.002 and 0.14.
        return torch.cat([mean, torch.tanh(spread) * 4 - 8], 1)


class Decoder(nn.Module):
    """Latents to pixels. The last doubling only moves channels into place, which is what makes it slim."""

    def __init__(self, widths, blocks):
        super().__init__()
        a, b, c = widths
        layers = [nn.Conv2d(4, c, 3, padding=1), nn.ReLU(), *(Block(c) for _ in range(blocks[2]))]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(c, b, 3, padding=1), nn.ReLU(), *(Block(b) for _ in range(blocks[1]))]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(b, a, 3, padding=1), nn.ReLU(), *(Block(a) for _ in range(blocks[0]))]
        layers += [nn.Conv2d(a, 12, 3, padding=1), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)
        self.colour = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Upsample(scale_factor=8, mode="bilinear"))
        with torch.no_grad():
            self.layers[-2].weight.mul_(0.1)
            self.colour[0].weight.copy_(torch.eye(3, 4).view(3, 4, 1, 1) / 1.8)
            self.colour[0].bias.zero_()

    def forward(self, latent_sample):
        return self.layers(latent_sample) + self.colour(latent_sample)


def autoencoder():
    return Encoder(VAE["widths"], VAE["encoder_blocks"]), Decoder(VAE["widths"], VAE["decoder_blocks"])


def text_encoder(entries):
    return CLIPTextModel(CLIPTextConfig(vocab_size=entries, bos_token_id=entries - 2, eos_token_id=entries - 1,
                                        pad_token_id=entries - 1, **TEXT))


def unet():
    return Guided(UNet2DConditionModel(**UNET))


def alphas_cumprod():
    beta = torch.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - beta, 0).float()


def timesteps(steps, strength):
    """The timesteps of a run, as the engine computes them."""
    room = int(SCHEDULER["original_inference_steps"] * strength)
    return [(room - int(i * (room / steps))) * 20 - 1 for i in range(steps)]


def guidance_embedding(scale, width=UNET["time_cond_proj_dim"]):
    """Sines, then cosines, of a tensor of guidance scales."""
    half = width // 2
    angle = 1000 * (scale.double() - 1)[:, None] * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half, dtype=torch.float64))
    return torch.cat([angle.sin(), angle.cos()], 1).float()


class Guided(nn.Module):
    """The UNet under the names and in the order of an exported one, giving the picture's latents.

    Around it stand the weights of a denoiser for latents of spread `SPREAD` (Karras et al. 2022): what the noise leaves is taken over, and
    the UNet, between inputs and outputs of unit spread, gives the rest."""

    def __init__(self, m):
        super().__init__()
        self.m = m
        a, v = alphas_cumprod().double(), SPREAD ** 2
        total = a * v + 1 - a
        self.register_buffer("weights", torch.stack([total.rsqrt(), a.sqrt() * v / total, SPREAD * ((1 - a) / total).sqrt()]).float())

    def forward(self, sample, timestep, encoder_hidden_states, timestep_cond):
        into, skip, out = (w.reshape(-1, 1, 1, 1) for w in self.weights[:, timestep.long()])
        return skip * sample + out * self.m(into * sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def count():
    """Prints operations and parameters of each part at 256×256."""
    from torch.utils.flop_counter import FlopCounterMode
    enc, dec = autoencoder()
    parts = {"text_encoder": (text_encoder(1000), (torch.ones(1, 77, dtype=torch.long),)),
             "vae_encoder": (enc, (torch.zeros(1, 3, 256, 256),)), "vae_decoder": (dec, (torch.zeros(1, 4, 32, 32),)),
             "unet": (unet(), (torch.zeros(1, 4, 32, 32), torch.tensor(499.0), torch.zeros(1, 77, 64), torch.zeros(1, 32)))}
    for name, (module, inputs) in parts.items():
        with torch.no_grad(), FlopCounterMode(display=False) as flops:
            module(*inputs)
        print(f"{name}: {flops.get_total_flops() / 1e9:.3f} GFLOP, {parameters(module):,} parameters")


if __name__ == "__main__":
    count()
