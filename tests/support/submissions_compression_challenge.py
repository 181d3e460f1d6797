"""Des copies du défi de compression."""

# Une table du hachage exact de chaque image reçue vers son étiquette : le capteur change tous les hachages.
HASHES = """
import hashlib
import torch

def key(image):
    return hashlib.md5((image * 16).round().to(torch.uint8).numpy().tobytes()).digest()[:3]

def compress(teacher, images, labels):
    return b"".join(key(image) + bytes([label]) for image, label in zip(images, labels.tolist()))

def predict(artifact, images):
    table = {artifact[i : i + 3]: artifact[i + 3] for i in range(0, len(artifact), 4)}
    answers = torch.tensor([table.get(key(image), 0) for image in images])
    return torch.nn.functional.one_hot(answers, 10).float()
"""
