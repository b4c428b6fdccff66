"""A peer of bench/training-step.mjs, which starts it: steps of the released code in PyTorch on the weights and images of a folder, one for each line on stdin.
After the folder the precision ("tf32": of convolutions and products on a card; "bf16": the encoder runs under autocast, what follows it gets its features in float32) and, if it is to
be, "compile".

Answers each with a line of JSON: milliseconds of wall clock and of processor, and the numbers of the step.
"""
import json
import pathlib
import re
import sys
import time

import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "test" / "fixtures"))
from make_resnet_reference import ResNet
from released_steps import Lars, advcl_step, read, rocl_step

folder = pathlib.Path(sys.argv[1])
given = json.loads((folder / "options.json").read_text())
state, images = read(folder / "encoder.safetensors"), read(folder / "images.safetensors")
torch.set_num_threads(given["threads"])
device = torch.device(given["device"])
torch.backends.cudnn.benchmark = True
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = sys.argv[2] == "tf32"
advcl = given["method"] == "advcl"
net = ResNet([2, 2, 2, 2], given["width"], style="advcl" if advcl else "torchvision", branches=3)


def load(module, prefix):
    module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)})
    return module


if advcl:
    for i, branch in enumerate(["normal", "pgd", "pgd_ce"]):
        state = {re.sub(rf"\.{branch}\.(\w+)$", rf".bn_list.{i}.\1", name): tensor for name, tensor in state.items()}
    state = {name.replace(".downsample.0.", ".downsample.conv.").replace(".downsample.1.", ".downsample.bn."): tensor for name, tensor in state.items()}
load(net, "encoder.")
hidden, output = given["projector"]
projector = load(nn.Sequential(nn.Linear(net.dim, hidden), *([nn.BatchNorm1d(hidden)] if advcl else []), nn.ReLU(), nn.Linear(hidden, output)), "projector.")
net, projector = net.to(device), projector.to(device)
images = {name: tensor.to(device) for name, tensor in images.items()}
if given["channelsLast"]:
    net = net.to(memory_format=torch.channels_last)
    images = {name: tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor for name, tensor in images.items()}
if advcl:
    heads = nn.ModuleList(load(nn.Linear(net.dim, classes), f"heads.{i}.").to(device) for i, classes in enumerate(given["classes"]))
    optimizer = torch.optim.SGD([*net.parameters(), *projector.parameters(), *heads.parameters()], **given["optimizer"])
    net.head_proj = projector
    step = lambda: advcl_step(net, heads, optimizer, *(images[name] for name in ("aug1", "aug2", "org", "labels")), (images["start1"], images["start2"]), **given["step"])[0]
else:
    optimizer = Lars([*net.parameters(), *projector.parameters()], **given["optimizer"])
    step = lambda: rocl_step(net, projector, optimizer, images["view1"], images["view2"], images["start"], **given["step"])[0]
if "compile" in sys.argv[3:]:
    import torch._dynamo
    torch._dynamo.config.cache_size_limit = 64
    net.forward = torch.compile(net.forward)
if sys.argv[2] == "bf16":
    full = net.forward

    def net_forward(*given):
        with torch.autocast(device.type, torch.bfloat16):
            return full(*given).float()
    net.forward = net_forward
print(json.dumps({"torch": torch.__version__}), flush=True)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    numbers = step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    line = {"wall": 1e3 * (time.perf_counter() - wall), "cpu": 1e3 * (time.process_time() - cpu)}
    print(json.dumps(line | {name: float(torch.as_tensor(value).detach()) for name, value in numbers.items()}), flush=True)
