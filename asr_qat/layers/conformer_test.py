from asr_qat.layers.attention import CausalAttention
from asr_qat.layers.conformer import ConformerBlock
from asr_qat.quantization.spec import policy


def test_a_policy_reaches_every_product_and_the_configuration_keeps_it():
    rules = [("", "dynamic_wi4_afp32"), ("attention/", "float32"), ("narrow", "wi4_ai4")]
    attention = CausalAttention(16, 2, 4, precision=policy(rules), name="attention")
    layer = ConformerBlock(attention, 3, precision=policy(rules), name="block")
    layer.build((None, None, 16))
    copy = ConformerBlock.from_config(layer.get_config())
    copy.build((None, None, 16))
    for block in (layer, copy):
        assert block.before.widen.recipe_name == "dynamic_wi4_afp32"
        assert block.before.narrow.recipe_name == block.after.narrow.recipe_name == "wi4_ai4"
        assert block.attention.inward.recipe_name == "float32"
        assert block.convolution.outward.recipe_name == "dynamic_wi4_afp32"
