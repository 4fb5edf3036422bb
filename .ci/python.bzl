"""py_library and py_test for this project's folders."""

def _mounted_py_library_impl(ctx):
    runfiles = ctx.runfiles(
        symlinks = {"asr_qat/" + src.short_path: src for src in ctx.files.srcs},
    )
    for dep in ctx.attr.deps:
        runfiles = runfiles.merge(dep[DefaultInfo].default_runfiles)
    return [
        DefaultInfo(files = depset(ctx.files.srcs), runfiles = runfiles),
        PyInfo(
            transitive_sources = depset(
                transitive = [dep[PyInfo].transitive_sources for dep in ctx.attr.deps],
            ),
        ),
    ]

# A library whose files appear below asr_qat/ when a program runs: export/ and tools/ are imported
# as asr_qat.export and asr_qat.tools. setup.py says so to pip (`package_dir`), this says so to Bazel.
_mounted_py_library = rule(
    implementation = _mounted_py_library_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".py"]),
        "deps": attr.label_list(providers = [PyInfo]),
    },
)

def py_library(name, **kwargs):
    """A library that is imported as asr_qat.…, whatever folder it is in."""
    if native.package_name().split("/")[0] in ("export", "tools"):
        _mounted_py_library(name = name, **kwargs)
    else:
        native.py_library(name = name, **kwargs)

def py_test(name, srcs, data = [], **kwargs):
    """A test file that pytest runs."""
    native.py_test(
        name = name,
        srcs = srcs + ["//.ci:run_pytest.py"],
        main = "//.ci:run_pytest.py",
        args = ["$(location %s)" % srcs[0]],
        # The packages of .venv are no inputs that Bazel sees; their versions are.
        data = data + ["//:requirements.lock"],
        **kwargs
    )
