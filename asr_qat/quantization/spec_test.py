import dataclasses

import pytest

from asr_qat.quantization.spec import (
    ACTIVATIONS,
    POLICIES,
    RECIPES,
    Policy,
    PolicyError,
    QuantSpec,
    WeightSpec,
    parse_rule,
    policy,
    recipe,
)

PATHS = (
    "transducer/encoder/subsampling/conv_0/product",
    "transducer/encoder/block_0/attention/query_key_value",
    "transducer/prediction/project",
    "transducer/joint/encoded",
)


@pytest.mark.parametrize(("bits", "qmax"), [(2, 1), (4, 7), (6, 31), (8, 127)])
def test_largest_code(bits, qmax):
    assert WeightSpec(bits=bits).qmax == qmax


@pytest.mark.parametrize(
    ("name", "bits", "activation"),
    [
        ("dynamic_wi4_afp32", 4, "asymmetric_rows"),
        ("dynamic_wi8_afp32_builtin", 8, "symmetric_rows"),
        ("weight_only_wi2_afp32", 2, "float"),
        ("wi4_ai4", 4, "four_bit_rows"),
        ("static_wi4_ai8", 4, "static_int8"),
        ("static_wi8_ai8", 8, "static_int8"),
    ],
)
def test_recipes_say_what_their_names_say(name, bits, activation):
    assert recipe(name) == QuantSpec(weight=WeightSpec(bits=bits), activation=activation)


def test_every_recipe_is_a_policy_for_the_encoder_alone():
    assert recipe("float32") == QuantSpec()
    assert recipe("float16") == QuantSpec(storage="float16")
    for name, spec in RECIPES.items():
        assert spec.activation in ACTIVATIONS
        chosen = policy(name)
        assert {chosen.name_for(path) for path in PATHS[:2]} == {name}
        assert {chosen.name_for(path) for path in PATHS[2:]} == {"float32"}


def test_mixed_policy_gives_the_first_layers_eight_bits():
    names = [policy("mixed_wi4_wi8").name_for(path) for path in PATHS]
    assert names == ["dynamic_wi8_afp32", "dynamic_wi4_afp32", "float32", "float32"]


def test_the_last_rule_that_matches_wins():
    rules = [("encoder/", "dynamic_wi4_afp32"), ("block_0/", "dynamic_wi8_afp32")]
    assert policy(rules).name_for(PATHS[1]) == "dynamic_wi8_afp32"
    assert policy(rules[::-1]).name_for(PATHS[1]) == "dynamic_wi4_afp32"
    assert policy(rules).name_for(PATHS[2]) == "float32"
    extended = policy(rules).with_rules([("attention", "float32")])
    assert extended.name_for(PATHS[1]) == "float32"
    assert extended.name_for(PATHS[0]) == "dynamic_wi4_afp32"


def test_a_rule_that_matches_nothing_is_an_error():
    rules = [("encoder/", "dynamic_wi4_afp32"), ("decoder/", "dynamic_wi8_afp32")]
    with pytest.raises(PolicyError, match=r"'decoder/' -> dynamic_wi8_afp32 matches no layer"):
        policy(rules).check(PATHS)
    policy(rules[:1]).check(PATHS)
    Policy().check(PATHS)


def test_a_policy_round_trips_through_json_lists():
    for chosen in POLICIES.values():
        assert policy(chosen.to_list()) == chosen
    assert policy(None) == Policy() and policy(POLICIES["wi4_ai4"]) is POLICIES["wi4_ai4"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: recipe("int4"), "unknown recipe 'int4'; expected one of: float32"),
        (lambda: policy("int4"), "unknown recipe 'int4'; expected one of: float32"),
        (lambda: policy([("encoder", "int4")]), "unknown recipe 'int4'"),
        (lambda: policy([("(encoder", "wi4_ai4")]), r"'\(encoder': not a regular expression"),
        (lambda: parse_rule("encoder"), "received 'encoder', expected 'pattern=recipe'"),
        (lambda: parse_rule("=wi4_ai4"), "expected 'pattern=recipe'"),
        (lambda: parse_rule("encoder=int4"), "unknown recipe 'int4'"),
        (lambda: recipe("wi4_ai4,clipping"), "received 'clipping', expected FIELD:VALUE"),
        (lambda: recipe("wi4_ai4,bits:2"), "received 'bits:2', expected FIELD:VALUE with one of"),
        (lambda: recipe("wi4_ai4,clipping:hard"), "received 'hard', expected one of"),
        (lambda: recipe("wi4_ai4,pull:much"), "'much' is no value of pull"),
        (lambda: recipe("wi4_ai4,scale_gradient:0"), "'0' is no value of scale_gradient"),
        (lambda: recipe("wi4_ai4,co_trained:8-3"), "co_trained bits: received 3"),
        (lambda: recipe("float16,pull:1"), "float16 has float weights"),
    ],
)
def test_what_a_policy_refuses(make, message):
    with pytest.raises(PolicyError, match=message):
        make()


def test_fields_follow_the_name():
    spec = recipe("dynamic_wi2_afp32,clipping:learned,pull:0.1,scale_gradient:false")
    weight = WeightSpec(bits=2, clipping="learned", pull=0.1, scale_gradient=False)
    assert spec == QuantSpec(weight=weight, activation="asymmetric_rows")
    assert spec.served == recipe("dynamic_wi2_afp32")
    weight = WeightSpec(bits=4, co_trained=(8, 4, 2))
    assert recipe("dynamic_wi4_afp32,co_trained:8-4-2").weight == weight
    chosen = policy("dynamic_wi4_afp32,divisor:7.5")
    assert chosen.resolve(PATHS[0]).weight == WeightSpec(bits=4, divisor=7.5)
    rule = ("feed_forward", "dynamic_wi2_afp32,clipping:lloyd_max")
    assert parse_rule("=".join(rule)) == rule


def test_parse_rule_splits_at_the_last_equals():
    assert parse_rule("a(?=b)=wi4_ai4") == ("a(?=b)", "wi4_ai4")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightSpec(bits=3), r"received 3, expected one of \(2, 4, 6, 8\)"),
        (lambda: WeightSpec(bits=4, divisor=0.0), "received 0.0, expected a number > 0"),
        (lambda: WeightSpec(bits=4, divisor=float("nan")), "received nan"),
        (lambda: QuantSpec(activation="int8"), "received 'int8', expected one of"),
        (lambda: QuantSpec(activation="symmetric_rows"), "need integer weights"),
        (lambda: QuantSpec(storage="bfloat16"), "received 'bfloat16', expected one of"),
        (
            lambda: QuantSpec(storage="float16", weight=WeightSpec(bits=4)),
            "storage 'float16' is for float weights; received integer ones",
        ),
        (
            lambda: QuantSpec(activation="static_int8", weight=WeightSpec(bits=2)),
            "weights of 4 or 8 bits; received 2",
        ),
    ],
)
def test_what_a_spec_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_specs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WeightSpec(bits=4).bits = 8  # type: ignore[misc]
