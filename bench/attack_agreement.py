"""Our attacks against their authors' on one model and the same images: robust accuracy of each, both ways.

    pip install torch numpy pyautoattack        # or git+https://github.com/fra31/auto-attack
    python bench/attack_agreement.py <classifier.safetensors> <folder of the CIFAR-10 binaries> --limit 1000 --work agreement
    node bench/attack-agreement.mjs agreement

The first command rebuilds the classifier (ResNet-18 of any width, CIFAR stem, one BatchNorm branch) in PyTorch, writes it as TorchScript together with the
images, and runs the original attacks; the second runs ours on the same files and prints the comparison. Robust: right clean and under the attack.
"""
import argparse, json, pathlib, sys, time
import numpy, torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "test" / "fixtures"))
from make_resnet_reference import ResNet, write
from released_steps import read
try:
    from autoattack import AutoAttack
    from autoattack.square import SquareAttack
    from autoattack.fab_pt import FABAttack_PT
    from autoattack.autopgd_base import APGDAttack, APGDAttack_targeted
except ImportError:
    from pyautoattack.square import SquareAttack
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

parser = argparse.ArgumentParser()
parser.add_argument("classifier"), parser.add_argument("cifar"), parser.add_argument("--limit", type=int, default=1000)
parser.add_argument("--norm", choices=["linf", "l2"], default="linf"), parser.add_argument("--epsilon", type=float)
parser.add_argument("--work", type=pathlib.Path, required=True), parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--attacks", default="apgd-ce,apgd-dlr,apgd-t,fab-t,square")
given = parser.parse_args()
torch.set_num_threads(given.threads)
epsilon = given.epsilon if given.epsilon is not None else 8 / 255 if given.norm == "linf" else 0.5
given.work.mkdir(exist_ok=True, parents=True)

state = read(pathlib.Path(given.classifier))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = ResNet([2, 2, 2, 2], state["encoder.conv1.weight"].size(0))
        self.head = nn.Linear(self.encoder.dim, state["head.weight"].size(0))

    def forward(self, x):
        return self.head(self.encoder(x))


net = Classifier()
net.load_state_dict(state)
net.eval()
bytes_ = numpy.frombuffer((pathlib.Path(given.cifar) / "test_batch.bin").read_bytes(), numpy.uint8).reshape(-1, 3073)[:given.limit]
x, y = torch.from_numpy(bytes_[:, 1:].reshape(-1, 3, 32, 32).astype(numpy.float32)) / 255, torch.from_numpy(bytes_[:, 0].astype(numpy.int64))
torch.jit.trace(net, x[:2]).save(given.work / "model.pt")
write(given.work / "images.safetensors", {"images": x, "labels": y})

common = dict(eps=epsilon, norm={"linf": "Linf", "l2": "L2"}[given.norm], seed=0, device="cpu", verbose=False)
attacks = {
    "apgd-ce": lambda: APGDAttack(net, n_iter=100, n_restarts=1, loss="ce", **common),
    "apgd-dlr": lambda: APGDAttack(net, n_iter=100, n_restarts=1, loss="dlr", **common),
    "apgd-t": lambda: APGDAttack_targeted(net, n_iter=100, n_restarts=1, n_target_classes=9, **common),
    "fab-t": lambda: FABAttack_PT(net, n_iter=100, n_restarts=1, targeted=True, n_target_classes=9, **common),
    "square": lambda: SquareAttack(net, n_queries=5000, n_restarts=1, p_init=0.8, resc_schedule=False, **common),
}
with torch.no_grad():
    right = (net(x).argmax(1) == y).tolist()
results = dict(norm=given.norm, epsilon=epsilon, right=right, attacks={})
for name in given.attacks.split(","):
    standing, began = torch.tensor(right), time.time()
    for rows in torch.tensor(right).nonzero().flatten().split(250):
        adversaries = attacks[name]().perturb(x[rows].clone(), y[rows].clone())
        with torch.no_grad():
            standing[rows] = net(adversaries).argmax(1) == y[rows]
    results["attacks"][name] = dict(standing=standing.tolist(), seconds=time.time() - began)
    print(f"{name}: {standing.float().mean():.2%} of {len(y)}, {time.time() - began:.0f} s", flush=True)
    (given.work / "original.json").write_text(json.dumps(results))
