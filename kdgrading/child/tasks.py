"""Ce que l'enfant enfermé sait faire : découper un notebook, appeler une réponse, rendre des nombres.

Importé par ``worker.py`` seul, dans le processus chaud. Rien ici ne juge : ni référence, ni tolérance, ni note. Une
réponse hostile peut tout y changer ; elle ne peut que rendre d'autres nombres.
"""

import base64
import builtins
import json
import linecache
import threading
import traceback

import numpy as np
import torch
from slicing import slice_answer

import kdcourse.losses.logits
import kdcourse.models
from kdcourse.exercises.challenge import answer_size

torch.set_num_threads(1)
_FILE = "<réponse>"


class Channel:
    """La conversation avec le parent : une ligne de JSON par message."""

    def __init__(self, connection):
        self.connection, self.lines = connection, connection.makefile("rb")

    def receive(self) -> dict:
        line = self.lines.readline()
        if not line:
            raise SystemExit
        return json.loads(line)

    def send(self, **message) -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\n")


def serve(connection) -> None:
    """Exécute les tâches d'une conversation, l'une après l'autre, jusqu'à ce que le parent la ferme."""
    channel = Channel(connection)
    while True:
        task = channel.receive()
        torch.manual_seed(task.get("seed", 0))
        np.random.seed(task.get("seed", 0) % 2**32)
        try:
            _TASKS[task["task"]](channel, task)
        except BaseException as error:  # SystemExit compris : ce que lève une réponse est un résultat comme un autre
            channel.send(error=_describe(error))
        channel.send(done=True)


def _probe(channel, task) -> None:
    """De quoi vérifier, avant toute copie, que le bac à sable laisse torch calculer."""
    weight = torch.ones(2, 2, requires_grad=True)
    (weight @ weight).sum().backward()
    channel.send(ok=bool(torch.isfinite(weight.grad).all()))


def _slice(channel, task) -> None:
    found = slice_answer(task["cells"], task["names"])
    channel.send(**found, size=answer_size(b"", found["code"]))


def _load(task) -> dict:
    """Les noms que définit le code de la réponse, exécuté comme une cellule."""
    namespace = {"__name__": "__main__", "__builtins__": builtins}
    namespace |= {"display": _Nothing(), "get_ipython": _Nothing()}  # ce qu'un notebook a sans l'importer
    linecache.cache[_FILE] = (len(task["source"]), None, task["source"].splitlines(True), _FILE)
    exec(compile(task["source"], _FILE, "exec"), namespace)
    return namespace


class _Nothing:
    """Accepte tout appel et tout attribut, et ne fait rien."""

    def __call__(self, *args, **options):
        return self

    def __getattr__(self, name):
        return self


def _calls(channel, task) -> None:
    answer = _load(task)[task["name"]]
    for case in task["cases"]:
        try:
            channel.send(case=_call(answer, case))
        except BaseException as error:
            channel.send(case={"error": _describe(error)})


def _call(answer, case) -> dict:
    """Ce que la réponse rend dans un cas : sa valeur, et son gradient pour la première entrée s'il est jugé."""
    leaf, *others = ([*map(decode, value)] if isinstance(value, list) else decode(value) for value in case["inputs"])
    first = leaf.requires_grad_().clone() if case["tied"] else leaf
    if case["tied"]:  # la deuxième entrée dépend de la feuille : oublier detach change le gradient
        others[0] = [value + first for value in others[0]] if isinstance(others[0], list) else others[0] + first
    result = answer(first, *others, **case["options"])
    seen = {"type": type(result).__name__}
    if isinstance(result, (int, float, np.number, np.ndarray)) and not isinstance(result, bool):
        result = torch.from_numpy(np.asarray(result, dtype=getattr(result, "dtype", float)))
    if isinstance(result, torch.Tensor):
        seen |= {"dtype": str(result.dtype).removeprefix("torch."), "shape": list(result.shape)}
        if result.is_floating_point():
            seen["result"] = encode(result.detach().double())
            if case["tied"] and result.dim() == 0 and result.requires_grad:
                gradient = torch.autograd.grad(result, leaf, allow_unused=True)[0]
                seen["gradient"] = None if gradient is None else encode(gradient.double())
    return seen


def _size_study(channel, task) -> None:
    answer, turn = _load(task)[task["name"]], threading.Lock()
    for number, case in enumerate(task["cases"]):

        def train_one(width, distilled, seed, number=number):
            # L'erreur n'est pas dans ce processus : le parent la donne, et compte les appels.
            with turn:  # des fils d'exécution peuvent appeler ensemble
                channel.send(call=[number, _plain(width), _plain(distilled), _plain(seed)])
                reply = channel.receive()
            if "refused" in reply:
                raise ValueError(reply["refused"])
            return reply["value"]

        try:
            channel.send(case={"rows": _rows(answer(train_one, list(case["widths"]), list(case["seeds"])))})
        except BaseException as error:
            channel.send(case={"error": _describe(error)})


def _plain(value):
    return value.item() if isinstance(value, (np.generic, torch.Tensor)) else value


def _rows(result):
    rows = list(result.values()) if isinstance(result, dict) else result
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, dict) for row in rows):
        return None if result is None else type(result).__name__
    return [{str(key): number for key, value in row.items() if (number := _number(value)) is not None} for row in rows]


def _number(value) -> float | None:
    """Un nombre, un tableau d'un seul nombre ; rien pour le reste : une colonne de plus ne gêne pas."""
    try:
        array = np.asarray(value, dtype=float)
        return float(array.reshape(())) if array.size == 1 else None
    except (TypeError, ValueError):
        return None


def _compress(channel, task) -> None:
    compress = _load(task)["compress"]
    teacher = kdcourse.models.digits_teacher()
    teacher.load_state_dict({name: decode(value) for name, value in task["teacher"].items()})
    artifact = compress(teacher.eval(), decode(task["images"]), decode(task["labels"]))
    if isinstance(artifact, (bytearray, memoryview)):
        artifact = bytes(artifact)
    if isinstance(artifact, bytes):
        channel.send(artifact=base64.b64encode(artifact).decode())
    else:
        channel.send(wrong=type(artifact).__name__)


def _predict(channel, task) -> None:
    predict = _load(task)["predict"]
    artifact, images = base64.b64decode(task["artifact"]), decode(task["images"])
    logits = predict(artifact, images)
    if isinstance(logits, np.ndarray):
        logits = torch.from_numpy(logits)
    if isinstance(logits, torch.Tensor):
        channel.send(logits=encode(logits.detach().double()))
    else:
        channel.send(wrong=type(logits).__name__)


def encode(tensor) -> dict:
    """Un tenseur en JSON : son type, sa forme, ses octets."""
    array = np.ascontiguousarray(tensor.numpy())  # d'un scalaire, numpy fait ici un tableau (1,)
    return {"dtype": str(array.dtype), "shape": list(tensor.shape), "data": base64.b64encode(array).decode()}


def decode(message: dict):
    """Le tenseur que ``encode`` a écrit."""
    array = np.frombuffer(base64.b64decode(message["data"]), dtype=message["dtype"])
    return torch.from_numpy(array.reshape(message["shape"]).copy())


def _describe(error: BaseException) -> str:
    """Type, message, et la ligne de la réponse où l'erreur est née."""
    try:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
        line = f" (« {frames[-1].line} »)" if frames and frames[-1].line else ""
        return f"{type(error).__name__} : {error}{line}"[:500]
    except Exception:  # le message d'une exception est aussi à l'élève
        return type(error).__name__


_TASKS = {
    "probe": _probe,
    "slice": _slice,
    "calls": _calls,
    "size_study": _size_study,
    "compress": _compress,
    "predict": _predict,
}
