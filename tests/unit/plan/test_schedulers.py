"""Schedulers: a wrong name, a wrong option, or one for another kind of model is one line before anything is sampled."""

import json
from pathlib import Path

import pytest

from synaug.config import Generation
from synaug.plan.model_family import check_generation
from synaug.plan.schedulers import check_scheduler
from synaug.runtime.errors import UserError

DIFFUSION = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear"}
SDXL = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon"}
V_PREDICTION = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
SD3 = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
SANA = {"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": True}
SPRINT = {"_class_name": "SCMScheduler", "prediction_type": "trigflow"}
FLOW_OPTIONS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def text(name: str, **options) -> str:
    return Generation(model="m", scheduler={"name": name, **options}).scheduler_text


def refusal(scheduler: str) -> str:
    with pytest.raises(UserError) as error:
        check_scheduler(scheduler)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_misspelt_scheduler_is_refused_with_the_name_that_is_meant():
    assert refusal("DPMSolverMultiStepScheduler") == (
        "generation.scheduler: diffusers has no scheduler 'DPMSolverMultiStepScheduler'; did you mean "
        "'DPMSolverMultistepScheduler'?"
    )
    for other in ("SchedulerMixin", "StableDiffusionPipeline", "x"):
        assert "generation.scheduler" in refusal(other)


def test_an_unknown_option_is_refused_with_the_options_of_the_scheduler():
    check_scheduler(text("EulerDiscreteScheduler", timestep_spacing="trailing", use_karras_sigmas=True))
    assert refusal(text("EulerDiscreteScheduler", timestep_spaces="trailing")) == (
        "generation.scheduler: EulerDiscreteScheduler has no option 'timestep_spaces'; did you mean 'timestep_spacing'?"
    )
    listed = refusal(text("FlowMatchEulerDiscreteScheduler", eta=1))
    assert (
        "has no option 'eta'; its options are base_image_seq_len, base_shift" in listed and "shift_terminal" in listed
    )
    assert "self" not in listed


def test_a_value_that_an_option_does_not_have_is_refused_with_those_that_it_has():
    assert refusal(text("EulerDiscreteScheduler", timestep_spacing="trailling")) == (
        "generation.scheduler: timestep_spacing of EulerDiscreteScheduler is 'trailling'; choose one of linspace, "
        "leading, trailing"
    )


@pytest.fixture
def suits(tmp_path):
    """A function: whether a scheduler suits a checkpoint with the config `own`; None, or the message."""

    def suits(own: dict, scheduler) -> str | None:
        config = tmp_path / "model" / "scheduler" / "scheduler_config.json"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(own))
        try:
            check_generation(Generation(model=str(tmp_path / "model"), scheduler=scheduler), "")
        except UserError as error:
            assert "\n" not in str(error)
            return str(error).replace(str(tmp_path / "model"), "MODEL")
        return None

    return suits


@pytest.mark.parametrize("own", [DIFFUSION, SDXL, V_PREDICTION])
def test_a_diffusion_model_takes_diffusion_schedulers_only(suits, own):
    for good in (
        None,
        "DPMSolverMultistepScheduler",
        "LCMScheduler",
        {"name": "UniPCMultistepScheduler", "solver_order": 3},
    ):
        assert suits(own, good) is None
    assert suits(own, "FlowMatchEulerDiscreteScheduler") == (
        "generation.scheduler: FlowMatchEulerDiscreteScheduler is for flow matching, and MODEL is a diffusion model; "
        "choose another one, or leave it out"
    )
    for options in (FLOW_OPTIONS, {"use_flow_sigmas": True}, {"prediction_type": "flow_prediction"}):
        assert "is set to flow matching, and MODEL is a diffusion model; " in suits(
            own, {"name": "DPMSolverMultistepScheduler", **options}
        )


@pytest.mark.parametrize("own", [SD3, SANA])
def test_a_flow_matching_model_takes_flow_schedulers_only(suits, own):
    for good in (None, "FlowMatchHeunDiscreteScheduler", {"name": "UniPCMultistepScheduler", **FLOW_OPTIONS}):
        assert suits(own, good) is None
    assert suits(own, "EulerDiscreteScheduler") == (
        "generation.scheduler: EulerDiscreteScheduler is for diffusion, and MODEL is a flow-matching model; "
        "leave it out"
    )


def test_a_flow_scheduler_needs_both_options_unless_the_checkpoint_has_them(suits):
    """Sana has DPM-Solver with flow options; schedulers with such options take them over."""
    assert suits(SANA, "UniPCMultistepScheduler") is None
    assert suits(SANA, "DPMSolverMultistepScheduler") is None
    advice = 'add its options use_flow_sigmas: true, prediction_type: "flow_prediction", or leave the scheduler out'
    assert advice in suits(SD3, "DPMSolverMultistepScheduler")
    assert advice in suits(SD3, {"name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True})
    assert advice in suits(SANA, {"name": "DPMSolverMultistepScheduler", "prediction_type": "epsilon"})


def test_other_kinds_of_schedulers_are_left_to_the_pipeline(suits):
    assert suits(SPRINT, "FlowMatchEulerDiscreteScheduler") is None
    assert suits(DIFFUSION, "CMStochasticIterativeScheduler") is None


def test_without_diffusers_nothing_but_the_kind_of_a_named_flow_scheduler_is_checked(suits, monkeypatch):
    """Plans are made in envs/data.yaml, which has no diffusers."""
    from synaug.plan import schedulers

    monkeypatch.setattr(schedulers, "find_spec", lambda name: None)
    schedulers._options.cache_clear()
    try:
        check_scheduler("Magic")
        assert suits(SDXL, "DPMSolverMultistepScheduler") is None
        assert suits(SD3, "DPMSolverMultistepScheduler") is None
        assert "is for flow matching" in suits(SDXL, "FlowMatchEulerDiscreteScheduler")
    finally:
        schedulers._options.cache_clear()


def test_the_options_that_the_text_of_the_package_gives_are_those_of_the_classes():
    import inspect

    import diffusers

    from synaug.plan.schedulers import _options

    for name in (
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "LMSDiscreteScheduler",
    ):
        parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
        known = _options(name)
        assert list(known) == [parameter for parameter in parameters if parameter != "self"]
        assert known["num_train_timesteps"].default == parameters["num_train_timesteps"].default


def test_the_embedded_generator_takes_a_scheduler_of_its_kind(repository):
    model = str(Path(repository) / "resources" / "embedded_generator")
    own = json.loads((Path(model) / "scheduler" / "scheduler_config.json").read_text())
    assert own["_class_name"]
    check_generation(Generation(model=model, scheduler="DPMSolverMultistepScheduler"), "")
    with pytest.raises(UserError, match="is for flow matching"):
        check_generation(Generation(model=model, scheduler="FlowMatchEulerDiscreteScheduler"), "")
