"""Ce que toute perte pure doit tenir, écrit une fois : chaque fichier de tests l'applique aux siennes.

Une perte est ici une fonction ``loss(student, teacher)`` qui rend un scalaire.
"""

import pytest
import torch
from hypothesis import settings, strategies as st
from hypothesis.extra.numpy import arrays

torch.set_num_threads(1)  # de si petits tenseurs n'occupent pas deux fils : ils s'attendent l'un l'autre
# Déterministe : un échec se rejoue à l'identique sur toute machine.
PROPERTIES = settings(max_examples=25, deadline=None, derandomize=True)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="demande un GPU CUDA")


def matrices(rows, columns, largest=5):
    """Matrices float64 à trois décimales : égalités et zéros compris, sans voisins à 1e-12 près."""
    values = st.integers(-1000 * largest, 1000 * largest)
    return arrays("int64", (rows, columns), elements=values).map(lambda a: torch.tensor(a / 1000, dtype=torch.float64))


def pair(*shape, teacher_shape=None, seed=0, dtype=torch.float64):
    """Un couple (student, teacher) tiré d'une loi normale."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(shape, generator=generator, dtype=torch.float64)
    teacher = torch.randn(teacher_shape or shape, generator=generator, dtype=torch.float64)
    return student.to(dtype), teacher.to(dtype)


def value_and_gradient(loss, student, teacher):
    student = student.detach().clone().requires_grad_()
    value = loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


def assert_finite(loss, student, teacher):
    value, gradient = value_and_gradient(loss, student, teacher)
    assert value.isfinite(), value
    assert gradient.isfinite().all(), gradient


def assert_zero_without_gradient(loss, student, teacher):
    value, gradient = value_and_gradient(loss, student, teacher)
    assert value == 0
    assert (gradient == 0).all()


def assert_teacher_gets_no_gradient(loss, student, teacher):
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def assert_low_precision_matches(loss, student, teacher, dtype, rtol=1e-5):
    """En fp16 ou bf16, la perte est float32 et vaut celle, en float64, des mêmes nombres arrondis."""
    student, teacher = student.to(dtype), teacher.to(dtype)
    expected, expected_gradient = value_and_gradient(loss, student.double(), teacher.double())
    value, gradient = value_and_gradient(loss, student, teacher)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=1e-6)
    rounding = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=rounding, atol=rounding * 1e-1)


def assert_unchanged_by_autocast(loss, student, teacher, device="cpu"):
    student, teacher = student.float().to(device), teacher.float().to(device)
    expected, expected_gradient = value_and_gradient(loss, student, teacher)
    student.requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        value = loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def assert_contiguity_does_not_matter(loss, student, teacher):
    def scattered(tensor):
        return torch.stack([tensor, tensor + 1], dim=-1)[..., 0]

    assert not scattered(student).is_contiguous()
    value, gradient = value_and_gradient(loss, scattered(student), scattered(teacher))
    expected, expected_gradient = value_and_gradient(loss, student, teacher)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def assert_gradcheck(loss, student, teacher):
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), (student.clone().requires_grad_(),))


def assert_compiles(loss, student, teacher):
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    value, gradient = value_and_gradient(compiled, student, teacher)
    expected, expected_gradient = value_and_gradient(loss, student, teacher)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def assert_vmaps(loss, student, teacher):
    """Trois students d'un coup, un teacher pour tous : mêmes valeurs et mêmes gradients que l'un après l'autre."""
    students = torch.stack([student, student.flip(0), 2 * student + 1])
    results = [value_and_gradient(loss, x, teacher) for x in students]
    values = torch.vmap(loss, in_dims=(0, None))(students, teacher)
    gradients = torch.vmap(torch.func.grad(loss), in_dims=(0, None))(students, teacher)
    torch.testing.assert_close(values, torch.stack([value for value, _ in results]))
    torch.testing.assert_close(gradients, torch.stack([gradient for _, gradient in results]))


def assert_same_on_gpu(loss, student, teacher):
    expected, expected_gradient = value_and_gradient(loss, student, teacher)
    value, gradient = value_and_gradient(loss, student.float().cuda(), teacher.float().cuda())
    assert value.is_cuda
    torch.testing.assert_close(value.cpu().double(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient.cpu().double(), expected_gradient, rtol=1e-3, atol=1e-5)


def assert_refused(call, error, *fragments):
    """L'erreur a ce type, et son message contient chacun de ces morceaux."""
    with pytest.raises(error) as raised:
        call()
    for fragment in fragments:
        assert fragment in str(raised.value), str(raised.value)
