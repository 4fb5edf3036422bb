import keras
import numpy as np
import pytest

from asr_qat.models.distillation import Teacher
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.training.checkpoints import state_variables

PIECES = {"pieces": ["<blank>", "a", "b", "c"]}


def make(name="nano", seed=0, pieces=PIECES):
    keras.utils.set_random_seed(seed)
    return Transducer(preset(name), pieces)


def batch(rows=2):
    rng = np.random.default_rng(0)
    return {
        "audio": (0.1 * rng.normal(size=(rows, 8000))).astype("float32"),
        "audio_length": np.full(rows, 8000, "int32"),
        "labels": rng.integers(1, 4, (rows, 3)).astype("int32"),
        "label_length": np.full(rows, 3, "int32"),
    }


def loss(model, training):
    data = batch()
    return float(model.compute_loss(data, y_pred=model(data), training=training))


def test_a_student_learns_from_another_model_in_training_alone():
    student, teacher = make(), make(seed=1)
    alone = loss(student, training=True)
    student.learn_from(Teacher(teacher, 0.5))
    half = loss(student, training=True) - alone
    student.learn_from(Teacher(teacher, 1.0))
    whole = loss(student, training=True) - alone
    assert half > 0.01 and whole == pytest.approx(2 * half, rel=1e-3)
    assert loss(student, training=False) == pytest.approx(alone)
    assert len(student.weights) == len(teacher.weights)
    student.learn_from(Teacher(student))
    assert loss(student, training=True) == pytest.approx(alone, rel=1e-5)


def test_training_goes_towards_the_teacher():
    student, teacher = make(), make(seed=1)
    data, before = batch(), teacher.get_weights()
    student.learn_from(Teacher(teacher, 20.0))
    student.compile(keras.optimizers.Adam(1e-2), run_eagerly=keras.backend.backend() != "jax")

    def distance():
        return loss(student, training=True) - loss(student, training=False)

    first = distance()
    for _ in range(4):
        student.train_on_batch(data)
    assert distance() < 0.9 * first
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make_teacher", "message"),
    [
        (lambda: Teacher(make(pieces={"pieces": ["<blank>", "x"]})), "has 2 labels that are not"),
        (lambda: Teacher(make("nano_cifg_sru")), "expected the same and Softmax"),
        (lambda: Teacher(make(), 0.0), "received 0.0, expected a number above 0"),
    ],
)
def test_who_cannot_teach(make_teacher, message):
    with pytest.raises(ValueError, match=message):
        make().learn_from(make_teacher())


def test_the_teachers_variables_are_arguments_of_the_step():
    student, teacher = make(), make(seed=1)
    own = [v.path for v in student.non_trainable_variables]
    student.learn_from(Teacher(teacher))
    theirs = {id(v) for v in teacher.variables}
    assert theirs < {id(v) for v in student.non_trainable_variables}
    assert not theirs & {id(v) for v in [*student.variables, *student.trainable_variables]}
    student.learn_from(Teacher(student))
    assert [v.path for v in student.non_trainable_variables] == own


def test_a_checkpoint_leaves_the_teacher_out():
    student = make()
    student.compile(keras.optimizers.Adam(1e-2))
    student.optimizer.build(student.trainable_variables)
    alone = set(state_variables(student))
    student.learn_from(Teacher(make(seed=1)))
    assert set(state_variables(student)) == alone
