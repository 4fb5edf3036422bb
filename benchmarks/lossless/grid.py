"""What the study trains and quantizes: declared here, before anything is known of the results."""

import dataclasses

INT4, INT2 = "dynamic_wi4_afp32", "dynamic_wi2_afp32"
FEED_FORWARD = r"(^|/)encoder/.*feed_forward"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training run, which goes on from the float model of its seed."""

    name: str
    precision: str | tuple[tuple[str, str], ...]
    why: str  # what it is in the study for
    seeds: tuple[int, ...] = (0, 1)
    method: str = "ours"  # or "fake_quant"
    taught: bool = False  # by the float model that it goes on from
    quantize_from: float = 0.0  # share of its steps that are float
    also: tuple[str, ...] = ()  # further precisions that its weights are exported at


def feed_forward(recipe: str) -> tuple[tuple[str, str], ...]:
    """4 bits, and another recipe for the feed-forward layers: two thirds of the encoder."""
    return (("(^|/)encoder/", INT4), (FEED_FORWARD, recipe))


CLIPPED = f"{INT2},clipping:lloyd_max"
LEARNED_2, STOPPED_2 = f"{INT2},clipping:learned", f"{CLIPPED},scale_gradient:false"
ONE = (0,)
STOPPED, LEARNED, LLOYD = "no gradient through the scale", "learned clipping", "Lloyd-Max clipping"
PULL, TAUGHT = "S8BQAT's pull to the grid", "the float model as a teacher"

RUNS = (
    Run(name="float", precision="float32", why="the same further steps in float"),
    Run(name="int4", precision=INT4, why="4-bit weights, int8 rows"),
    Run(name="int8", precision="dynamic_wi8_afp32", why="8-bit weights, int8 rows"),
    Run(name="int4_a4", precision="wi4_ai4", why="4-bit weights and activations"),
    Run(
        name="int2_mix_learned_taught",
        precision=feed_forward(LEARNED_2),
        taught=True,
        why=f"2-bit feed-forward layers, {LEARNED}, {TAUGHT}",
    ),
    Run(name="fake_quant_int4", precision=INT4, method="fake_quant", why="what others do"),
    Run(name="mixed_4_8", precision="mixed_wi4_wi8", why="8 bits where features come in"),
    Run(name="int2_mix_taught", precision=feed_forward(CLIPPED), taught=True, why=f"{LLOYD} there"),
    # Options, each beside the run without it.
    Run(name="float_taught", precision="float32", taught=True, seeds=ONE, why=TAUGHT),
    Run(name="int2_mix", precision=feed_forward(CLIPPED), seeds=ONE, why="no teacher"),
    Run(name="int2_mix_plain", precision=feed_forward(INT2), seeds=ONE, why="2 bits, not clipped"),
    Run(name="int2", precision=LEARNED_2, taught=True, why="2 bits throughout"),
    Run(name="int4_taught", precision=INT4, taught=True, seeds=ONE, why=TAUGHT),
    Run(name="int4_learned", precision=f"{INT4},clipping:learned", seeds=ONE, why=LEARNED),
    Run(name="int4_lloyd", precision=f"{INT4},clipping:lloyd_max", seeds=ONE, why=LLOYD),
    Run(name="int4_stopped", precision=f"{INT4},scale_gradient:false", seeds=ONE, why=STOPPED),
    Run(name="int4_pull", precision=f"{INT4},pull:1", seeds=ONE, why=PULL),
    Run(name="int4_delayed", precision=INT4, quantize_from=0.5, seeds=ONE, why="float at first"),
    Run(name="int4_static", precision="static_wi4_ai8", seeds=ONE, why="learned activation ranges"),
    Run(
        name="co_trained",
        precision=f"{INT4},co_trained:8-4-2",
        also=("dynamic_wi8_afp32", INT2),
        seeds=ONE,
        why="one set of weights for 8, 4 and 2 bits",
    ),
    Run(name="int2_mix_learned", precision=feed_forward(LEARNED_2), seeds=ONE, why=LEARNED),
    Run(name="int2_mix_stopped", precision=feed_forward(STOPPED_2), seeds=ONE, why=STOPPED),
    Run(name="int2_mix_pull", precision=feed_forward(f"{CLIPPED},pull:1"), seeds=ONE, why=PULL),
)

# Post-training quantization of the float run's file, by AI Edge Quantizer: (algorithm, bits).
BASELINES = (
    *(("minmax", 8), ("minmax", 4), ("mse", 4), ("octav", 4), ("gptq", 4), ("oscar", 4)),
    *(("minmax", 2), ("octav", 2), ("gptq", 2), ("oscar", 2)),
)


def run_named(name: str) -> Run:
    """The run of that name.

    Raises:
        ValueError: if there is none.
    """
    for run in RUNS:
        if run.name == name:
            return run
    raise ValueError(f"run {name!r}: expected one of {', '.join(r.name for r in RUNS)}")
