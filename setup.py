"""Packaging of asr_qat: three top-level folders that install as one package."""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = {"asr_qat": "asr_qat", "asr_qat.export": "export", "asr_qat.tools": "tools"}

packages = [
    name
    for package, folder in FOLDERS.items()
    for name in [package, *(f"{package}.{inner}" for inner in find_packages(folder))]
]

TEST = ["hypothesis>=6", "pytest>=8", "pytest-xdist>=3"]
SCALE = ["apache-beam>=2.77"]
DEMO = ["ai-edge-quantizer>=0.10", "espeakng-loader>=0.2.4", "matplotlib>=3.8"]

setup(
    name="asr_qat",
    version="0.1.0",
    description="4-bit speech recognisers for phones: native-integer QAT in Keras, INT4 TFLite out",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=packages,
    package_dir=FOLDERS,
    install_requires=[
        "absl-py>=2.1",
        "ai-edge-litert>=2.3",
        "array_record>=0.8",
        "flatbuffers>=23.5.26",
        "grain>=0.2.11",  # later ones need protobuf 5, which TensorFlow 2.16 cannot use
        "jiwer>=4.0",
        "keras>=3.15",
        "numpy>=1.26",
        "sentencepiece>=0.2",
        "soundfile>=0.13",
        "soxr>=0.5",
        "tensorboard>=2.16",
        "tensorflow>=2.16",
        "tqdm>=4.66",
    ],
    extras_require={
        "demo": DEMO,
        "dev": [*DEMO, *SCALE, *TEST, "jax>=0.10", "mypy>=1.13", "ruff>=0.8"],
        "scale": SCALE,
        "kenlm": ["kenlm>=0.3"],  # compiled when it is installed: needs a C++ compiler and CMake
        "compat": [
            *TEST,
            "tensorflow==2.16.2",  # tensorflow-io 0.37.1 loads with no other
            "tensorflow-io==0.37.1",
            "tflite-runtime==2.14.0",
            "numpy<2",  # tflite-runtime was built for NumPy 1, but does not say so
        ],
    },
    entry_points={"console_scripts": ["asr-qat = asr_qat.tools.main:console"]},
)
