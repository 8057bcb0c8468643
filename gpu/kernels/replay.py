"""Calls recorded once and replayed: what a call allocates and launches depends on shapes, and not on numbers.

Choosing tiles, and Triton's look at each argument of a launch, take the CPU longer than small kernels take a GPU. So the first
call of a kind notes its launches; later ones repeat them with their own arrays. A recording holds no array.
"""

import inspect
import threading
import weakref

import torch
import triton
from triton import knobs
from triton.runtime import driver

from .triton_common import INTERPRETED, bind, described

MOST = 512  # recordings that are kept; when there would be more, all are forgotten and made anew
ADDRESSES = 32  # of each argument, whose descriptors are kept likewise
_recordings = {}
_local = threading.local()


def launch(kernel, grid, *args, **options):
    """kernel[grid](*args, **options), noted if a call is being recorded."""
    compiled = kernel[grid](*args, **options)
    if (recording := getattr(_local, "recording", None)) is not None:
        recording.note(kernel, compiled, grid, args, options)


def keep_no_recording():
    """Do not keep the call that is being recorded, for it did what later calls need not do."""
    if (recording := getattr(_local, "recording", None)) is not None:
        recording.steps.append(None)
        recording.uses.append(set())


def again(kind, arrays):
    """The results of a call of this kind for other arrays; None if none was recorded that fits them."""
    recording = _recordings.get(kind)
    return recording.replay(arrays) if recording is not None and recording.fits(arrays) else None


def again_or_recorded(function, kind, arrays):
    """`again`, or else function(*arrays), a tuple of tensors and None, recorded.

    kind: hashable, what decides what the function launches: `triton_checks.kind_of` the arrays, and more; None to record nothing.
    arrays: tensors that a kernel reads as they are, or None. The function may allocate without filling, and write by `launch`
    alone.
    """
    if INTERPRETED or kind is None:
        return function(*arrays)
    if results := again(kind, arrays):
        return results
    # One that is given twice gets two names, for the next call may give two.
    arrays = [x if x is None or all(x is not y for y in arrays[:n]) else x.detach() for n, x in enumerate(arrays)]
    recording = _local.recording = _Recording(arrays)
    try:
        results = function(*arrays)
    finally:
        _local.recording = None
    if recording.end(results):
        if len(_recordings) >= MOST:
            _recordings.clear()
        _recordings[kind] = recording
    return results


def forget():
    """Forget all recordings: what they depend on has changed."""
    _recordings.clear()


class _Recording:
    """The launches of one call, in which arrays have numbers: first those given, then those that it allocated.

    device: the current device. aligned: numbers of given arrays that must start at a multiple of 16 bytes, as those that were
    recorded did. steps: functions of the list of arrays and of the stream.
    """

    def __init__(self, arrays):
        self.given, self.count = arrays, len(arrays)
        self.numbers = {id(x): (weakref.ref(x), number) for number, x in enumerate(arrays) if x is not None}
        self.device, self.steps, self.uses = torch.cuda.current_device(), [], []

    def fits(self, arrays):
        """True if the kernels, as they were compiled, can read these arrays, and if theirs is the current device."""
        if torch.cuda.current_device() != self.device:
            return False
        return not any(arrays[number].data_ptr() % 16 for number in self.aligned)

    def note(self, kernel, compiled, grid, args, options):
        """Add a launch, and before it the allocation of each array that is new."""
        places = [(self._number(arg), arg) for arg in args]
        constants = [options[name] for name in kernel.arg_names[len(args) :]]
        step = compiled and _launcher(
            compiled, (*grid, 1, 1)[:3], places, constants
        )  # a hook may hide what was compiled
        self._add(step, [number for number, _ in places])

    def _number(self, arg):
        """The number of the array that an argument is or describes; None for another argument."""
        array = arg.base if _describes(arg) else arg
        if not isinstance(array, torch.Tensor):
            return None
        known, number = self.numbers.get(id(array), (None, None))
        if known is None or known() is not array:  # one that was freed has left its identity to this one
            number = self.count
            self.count += 1
            self.numbers[id(array)] = weakref.ref(array), number
            self._add(_allocator(array), [])
        return number

    def _add(self, step, uses):
        self.steps.append(step)
        self.uses.append(set(uses))

    def end(self, results):
        """Note what is returned, and free each other array after the last launch that uses it. False if it cannot be replayed."""
        given = range(len(self.given))
        self.aligned = [n for n in given if self.given[n] is not None and self.given[n].data_ptr() % 16 == 0]
        self.results = [self._number(x) for x in results]
        steps, later = [], {None, *self.results, *given}
        for step, uses in zip(reversed(self.steps), reversed(self.uses), strict=True):
            steps += [_freer(sorted(uses - later))] if uses - later else []
            steps.append(step)
            later |= uses
        self.steps = steps[::-1]
        del self.given, self.numbers, self.uses
        return all(self.steps)

    def replay(self, arrays):
        """The results for other arrays."""
        stream, arrays = driver.active.get_current_stream(self.device), list(arrays)
        for step in self.steps:
            step(arrays, stream)
        return tuple(None if number is None else arrays[number] for number in self.results)


def _describes(arg):
    """True for the descriptors of an array, of which Triton and Gluon have a class each."""
    return hasattr(arg, "block_shape")


def _allocator(array):
    shape, strides, dtype, device = array.shape, array.stride(), array.dtype, array.device
    return lambda arrays, stream: arrays.append(torch.empty_strided(shape, strides, dtype=dtype, device=device))


def _freer(numbers):
    def free(arrays, stream):
        for number in numbers:
            arrays[number] = None

    return free


def _launcher(compiled, grid, places, constants):
    """A launch of a compiled kernel; places: (number of an array or None, the argument when it was recorded)."""
    tiles = [(arg.shape, arg.strides, arg.block_shape) if _describes(arg) else None for _, arg in places]
    # No array is kept.
    places = [(n, tile, arg if n is None else None) for (n, arg), tile in zip(places, tiles, strict=True)]

    def launch_by_triton(arrays, stream):
        bind(next(x for x in arrays if x is not None).device)
        args = [
            constant if n is None else arrays[n] if tile is None else described(arrays[n], *tile)
            for n, tile, constant in places
        ] + constants
        enter, leave = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
        metadata = compiled.launch_metadata(grid, stream, *args)
        compiled.run(*grid, stream, compiled.function, compiled.packed_metadata, metadata, enter, leave, *args)

    return _faster(compiled, grid, places, constants, launch_by_triton) or launch_by_triton


def _faster(compiled, grid, places, constants, launch_by_triton):
    """The same below the function of Triton 3.6 that makes descriptors at each call: here one serves again for its address.

    None for another Triton, for GPUs without a copy engine, and for kernels that need more than arrays.
    """
    run, launch = compiled.run, getattr(compiled.run, "launch", None)
    hidden = inspect.getclosurevars(launch).nonlocals if inspect.isfunction(launch) else {}
    if not (
        triton.__version__.startswith("3.6.")
        and {"launcher", "tensordesc_meta"} <= hidden.keys()
        and all(hidden["tensordesc_meta"] or ())  # a GPU without a copy engine has none, and needs the array itself
        and run.global_scratch_size == run.profile_scratch_size == 0
    ):
        return None
    from triton.backends.nvidia.driver import make_tensordesc_arg

    launcher, metas = hidden["launcher"], iter(hidden["tensordesc_meta"])
    places = [(n, tile, constant, tile and next(metas), {}) for n, tile, constant in places]
    fixed = compiled.function, run.launch_cooperative_grid, run.launch_pdl, None, None, compiled.packed_metadata

    def launch_directly(arrays, stream):
        hooks = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
        if any(getattr(hook, "calls", hook) for hook in hooks):  # a profiler's
            launch_by_triton(arrays, stream)
            return
        args = []
        for n, tile, constant, meta, made in places:
            if n is None:
                args.append(constant)
            elif tile is None:
                args.append(arrays[n])
            else:
                address = arrays[n].data_ptr()
                parts = made.get(address)
                if parts is None:
                    bind(arrays[n].device)
                    if len(made) >= ADDRESSES:
                        made.clear()
                    parts = made[address] = make_tensordesc_arg(described(arrays[n], *tile), meta)
                args += parts
        launcher(*grid, stream, *fixed, None, None, None, *args, *constants)

    return launch_directly
