"""Other implementations of the losses, for `a-infonce bench`, which starts it: answers each line of JSON on stdin with one on stdout.

The first line says what there is. "call" prepares an implementation and calls it once, forward and backward: its loss, and its gradient in a file;
"time" calls it again and says the milliseconds of wall clock and of processor; "peak" calls it again and says the extra peak memory in bytes;
"forget" ends them all.
"""
import json
import re
import sys
import time

import torch
from torch.nn import functional as F

from released_losses import advcl_contrastive, rocl_contrastive


def nt_xent(temperature):
    """Plain NT-Xent of rows [2 * batch, dim]: what one writes down first."""
    def loss(x):
        z = F.normalize(x, dim=1)
        n = len(x)
        s = (z @ z.T / temperature).masked_fill(torch.eye(n, dtype=torch.bool, device=x.device), float("-inf"))
        return F.cross_entropy(s, torch.arange(n, device=x.device).roll(n // 2))
    return loss


def compiled(temperature):
    return torch.compile(nt_xent(temperature), dynamic=False)


def lightly(temperature):
    loss = NTXentLoss(temperature=temperature)
    return lambda x: loss(x[:len(x) // 2], x[len(x) // 2:])


def metric_learning(temperature):
    """With one positive a row SupConLoss is NT-Xent; NTXentLoss holds every positive pair against every negative pair, n^3 numbers."""
    loss = losses.SupConLoss(temperature=temperature)
    return lambda x: loss(x, torch.arange(len(x) // 2, device=x.device).repeat(2))


def released(form, temperature, alpha=None, beta=None, tau=None):
    if form == "advcl":
        return lambda x: advcl_contrastive(F.normalize(x, dim=1), temperature, 1, alpha, beta, tau)
    to, back = (1, 1) if alpha is None else (alpha, 1 - alpha)
    pairs = [(0, 1, 1), (1, 0, 1), (0, 2, to), (1, 2, to), (2, 0, back), (2, 1, back)]
    return lambda x: rocl_contrastive(x, 3, pairs, temperature, beta, tau)


MAKERS = {"PyTorch": nt_xent, "torch.compile": compiled, "released code": released}
absent = {}
try:
    from lightly.loss import NTXentLoss
    MAKERS["lightly"] = lightly
except Exception as error:
    absent["lightly"] = str(error)
try:
    from pytorch_metric_learning import losses
    MAKERS["pytorch-metric-learning"] = metric_learning
except Exception as error:
    absent["pytorch-metric-learning"] = str(error)


def peak():
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])


calls = {}


def call(x, loss, precision):
    x.grad = None
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        value = loss(x)
    value.backward()
    return value.item()  # waits for a device


def answer(request):
    kind = request["ask"]
    if kind == "forget":
        calls.clear()
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()  # nothing compiled for other shapes is taken again
        return {}
    if kind == "call":
        torch.set_num_threads(request["threads"])
        shape = (request["n"], request["dim"])
        size = shape[0] * shape[1]
        x = torch.from_file(request["rows"], size=size).view(shape).clone().to(request.get("device", "cpu")).requires_grad_()
        # "full" as PyTorch has it by default, "tf32": products of float32 in TF32, "bf16": autocast. Of a process, so "time" asks in the precision of the last call.
        precision = request.get("precision", "full")
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        calls[request["peer"]] = x, MAKERS[request["peer"]](**request["with"]), precision
        value = call(*calls[request["peer"]])
        if "gradient" in request:
            torch.from_file(request["gradient"], shared=True, size=size).view(shape).copy_(x.grad)
        return {"value": value}
    x, loss, precision = calls[request["peer"]]
    if kind == "time":
        wall, cpu = time.perf_counter(), time.process_time()
        call(x, loss, precision)
        return {"ms": 1e3 * (time.perf_counter() - wall), "cpu": 1e3 * (time.process_time() - cpu)}
    x.grad = None
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.max_memory_allocated(x.device)
        call(x, loss, precision)
        return {"bytes": torch.cuda.max_memory_allocated(x.device) - before}
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak starts anew
    before = peak()
    call(x, loss, precision)
    return {"bytes": max(0, peak() - before)}  # the kernel counts pages in batches


print(json.dumps({"torch": torch.__version__, "python": sys.version.split()[0], "peers": list(MAKERS), "absent": absent}), flush=True)
for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"}
    print(json.dumps(reply), flush=True)
