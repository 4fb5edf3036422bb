"""`python -m asr_qat.tools.benchmark`."""

from asr_qat.tools import benchmark
from asr_qat.tools.main import main_of

main_of(benchmark)
