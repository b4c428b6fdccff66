"""The per-sample pipelines as data loaders in Python run them: Pillow and NumPy, in torchvision's order and with its parameters.

    python3 augment_reference.py PIXELS COUNT SIDE SECONDS

PIXELS is a file of bytes [COUNT, 3, SIDE, SIDE]. Prints {"<pipeline>": images per second} as JSON; one process, one thread.
"""
import json, math, random, sys, time
import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def jitter(image, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1):
    def shift_hue(image):
        h, s, v = image.convert("HSV").split()
        h = np.asarray(h) + np.uint8(int(random.uniform(-hue, hue) * 255) & 255)
        return Image.merge("HSV", (Image.fromarray(h), s, v)).convert("RGB")

    def enhance(kind, spread):
        return lambda image: kind(image).enhance(random.uniform(1 - spread, 1 + spread))

    operations = [enhance(ImageEnhance.Brightness, brightness), enhance(ImageEnhance.Contrast, contrast), enhance(ImageEnhance.Color, saturation), shift_hue]
    for operation in random.sample(operations, 4):
        image = operation(image)
    return image


def color(image):
    if random.random() < 0.8:
        image = jitter(image)
    return image.convert("L").convert("RGB") if random.random() < 0.2 else image


def flip(image):
    return ImageOps.mirror(image) if random.random() < 0.5 else image


def resized_crop(image, low, size):
    for _ in range(10):
        area = image.width * image.height * random.uniform(low, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
            return image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def padded_crop(image, size):
    image = ImageOps.expand(image, 4)
    left, top = random.randint(0, image.width - size), random.randint(0, image.height - size)
    return image.crop((left, top, left + size, top + size))


def to_float(image):
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


path, count, side, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
pixels = np.fromfile(path, np.uint8).reshape(count, 3, side, side).transpose(0, 2, 3, 1).copy()
pipelines = {
    "rocl": lambda image: resized_crop(flip(color(image)), 0.08, side),
    "advcl-strong": lambda image: color(flip(resized_crop(image, 0.2, side))),
    "weak": lambda image: flip(padded_crop(image, side)),
}
rates = {}
for name, pipeline in pipelines.items():
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        to_float(pipeline(Image.fromarray(pixels[done % count])))
        done += 1
    rates[name] = done / spent
print(json.dumps(rates))
