"""The pipelines of bench/augment.mjs in torchvision: image by image as its data loaders run them, and a batch at once, for which v2 draws once.

    python3 augment_peers.py PIXELS COUNT SIDE THREADS DEVICE

PIXELS is a file of bytes [COUNT, 3, SIDE, SIDE]. Answers lines {"peer", "pipeline", "seconds"} with {"images", "cpu": seconds of the processor, on a device of wall clock}.
"""
import json, sys, time
import numpy as np
import torch, torchvision
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

path, (count, side, threads), device = sys.argv[1], map(int, sys.argv[2:5]), sys.argv[5]
torch.set_num_threads(threads)
planes = torch.from_numpy(np.fromfile(path, np.uint8).reshape(count, 3, side, side))
there = planes.to(device)
pictures = planes.permute(0, 2, 3, 1).contiguous().numpy()


def recipes(of):
    color = [of.RandomApply([of.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8), of.RandomGrayscale(0.2)]
    flip = of.RandomHorizontalFlip()
    return {
        "rocl": [*color, flip, of.RandomResizedCrop(side, scale=(0.08, 1))],
        "advcl-strong": [of.RandomResizedCrop(side, scale=(0.2, 1)), flip, *color],
        "weak": [of.RandomCrop(side, padding=4), flip],
    }


single = {name: transforms.Compose([*steps, transforms.ToTensor()]) for name, steps in recipes(transforms).items()}
batch = {name: v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)]) for name, steps in recipes(v2).items()}


def views(peer, pipeline):
    if peer == "batch":
        return batch[pipeline](there)
    return torch.stack([single[pipeline](Image.fromarray(picture)) for picture in pictures])


print(json.dumps({"torchvision": torchvision.__version__}), flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    clock = time.process_time if device == "cpu" else time.perf_counter
    images, start, end = 0, clock(), time.perf_counter() + ask["seconds"]
    while images == 0 or time.perf_counter() < end:
        views(ask["peer"], ask["pipeline"])
        images += count
    if device != "cpu":
        torch.cuda.synchronize()
    print(json.dumps({"images": images, "cpu": clock() - start}), flush=True)
