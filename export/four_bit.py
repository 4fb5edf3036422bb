"""Constants of the operators that make 4-bit rows (`dense_lowering.FourBitLowering`)."""

import numpy as np

# Added and taken away again it rounds a float32 below 2^22 to an integer, ties to even. ROUND
# would do the same, but TFLite's reference kernels lack it.
ROUNDING = np.float32(1.5 * 2**23)
# With these beside the codes of a row, kernels that quantize with a zero point find scale 1 and
# zero point 0: the codes stay what they are.
SENTINELS = np.array([-128, 127], np.float32)
