"""What is mutated and by which tests, as data: room, module, and the test files that should notice."""

from __future__ import annotations

_S = "tests/sret_nas"
_R = "tests/trials"

_CHAIN = f"{_S}/space/test_chain.py"
_DP, _MODEL = f"{_S}/optimize/test_dynamic_program.py", f"{_S}/surrogate/test_model.py"
_SET = tuple(f"{_S}/feasible/test_{name}.py" for name in ("feasible_set", "feasible_draws", "large_counts"))
_STRATIFIED, _BALANCED = f"{_S}/feasible/test_stratified.py", f"{_S}/feasible/test_balanced.py"
_LATENCY = (f"{_S}/latency/test_table.py", f"{_S}/latency/test_fast_set.py", f"{_S}/nn/test_part_timing.py")
_FRONT = (f"{_S}/optimize/test_branch_and_bound.py",)
_SPACE = tuple(
    f"{_S}/space/test_{name}.py" for name in ("search_space", "stage_table", "wrong_spaces", "listed_variants")
)
_RECORDS = tuple(f"{_R}/runs/test_{name}.py" for name in ("records", "damaged_records", "lost_run_directory"))
_COPIES = tuple(f"{_R}/runs/test_{name}.py" for name in ("remote_copy", "remote_copy_places", "copied_searches"))
_TRIALS = tuple(f"{_R}/search/test_trial_{name}.py" for name in ("loop", "budgets", "rungs"))
_PRESETS = f"{_S}/arch/test_presets.py"
_QUICK = ("-m", "not slow")
"""For pytest: leaves out the tests that run whole searches, whose time would be most of a mutant's."""

ROOMS: dict[str, dict[str, tuple[str, ...]]] = {
    "pareto": {
        "sret_nas/pareto.py": (f"{_S}/test_pareto.py",),
    },
    "quantities": {
        "sret_nas/arch/budget.py": (f"{_S}/arch/test_budget.py",),
        "sret_nas/quantities.py": (
            f"{_S}/test_quantities.py",
            f"{_S}/arch/test_budget.py",
            *_LATENCY,
            f"{_R}/report/test_progress.py",
        ),
    },
    "arch": {
        "sret_nas/arch/config.py": (f"{_S}/arch/test_config.py", f"{_S}/arch/test_result_file.py", _PRESETS),
        "sret_nas/arch/parts.py": (f"{_S}/arch/test_config.py", _PRESETS),
        "sret_nas/arch/sizes.py": (f"{_S}/arch/test_config.py", f"{_S}/arch/test_cost.py"),
        "sret_nas/arch/presets.py": (_PRESETS,),
        "sret_nas/arch/cost.py": (_PRESETS, _CHAIN, f"{_S}/arch/test_cost.py", *_SET),
        "sret_nas/arch/result_file.py": (f"{_S}/arch/test_result_file.py",),
        "sret_nas/arch/differences.py": (f"{_S}/arch/test_differences.py",),
    },
    "space": {
        "sret_nas/space/choices.py": (*_SPACE, _CHAIN, *_SET),
        "sret_nas/space/stage_table.py": (*_SPACE, _CHAIN, *_SET, _STRATIFIED, _BALANCED),
        "sret_nas/space/search_space.py": (*_SPACE, f"{_S}/space/test_supernet_shape.py", *_SET),
        "sret_nas/space/choice_costs.py": (_CHAIN, *_SET, _STRATIFIED),
        "sret_nas/space/chain.py": (_CHAIN, _DP, *_LATENCY),
        "sret_nas/space/supernet_shape.py": (f"{_S}/space/test_supernet_shape.py",),
        "sret_nas/space/tables.py": (f"{_S}/space/test_tables.py",),
    },
    "surrogate": {
        "sret_nas/surrogate/model.py": (_MODEL,),
        "sret_nas/surrogate/process.py": (f"{_S}/surrogate/test_process.py",),
        "sret_nas/surrogate/kernel.py": (f"{_S}/surrogate/test_kernel.py",),
        "sret_nas/surrogate/features.py": (f"{_S}/surrogate/test_features.py", _MODEL),
        "sret_nas/surrogate/ordinal_effects.py": (f"{_S}/surrogate/test_features.py", _MODEL),
        "sret_nas/surrogate/choice_effects.py": (f"{_S}/surrogate/test_choice_effects.py",),
        "sret_nas/surrogate/centred_features.py": (f"{_S}/surrogate/test_centred_features.py",),
        "sret_nas/surrogate/ensemble.py": (f"{_S}/surrogate/test_ensemble.py",),
    },
    "feasible": {
        "sret_nas/feasible/arguments.py": (f"{_S}/feasible/test_arguments.py",),
        "sret_nas/feasible/overflow.py": (f"{_S}/feasible/test_overflow.py", *_SET),
        "sret_nas/feasible/cost_cells.py": (f"{_S}/feasible/test_cost_cells.py", *_SET),
        "sret_nas/feasible/summed_area_table.py": (f"{_S}/feasible/test_summed_area_table.py", *_SET),
        "sret_nas/feasible/cost_table.py": (*_SET, _STRATIFIED),
        "sret_nas/feasible/extremes.py": (
            f"{_S}/feasible/test_extremes.py",
            f"{_S}/feasible/test_three_costs.py",
            *_SET,
        ),
        "sret_nas/feasible/feasible_set.py": (*_SET, _STRATIFIED, f"{_S}/feasible/test_three_costs.py"),
        "sret_nas/feasible/stratified.py": (_STRATIFIED, _BALANCED),
        "sret_nas/feasible/balanced.py": (_BALANCED,),
        "sret_nas/feasible/cost_density.py": (f"{_S}/feasible/test_cost_density.py", f"{_R}/report/test_space.py"),
        "sret_nas/feasible/three_costs.py": (f"{_S}/feasible/test_three_costs.py",),
    },
    "optimize": {
        "sret_nas/optimize/dynamic_program.py": (_DP, _MODEL),
        "sret_nas/optimize/branch_and_bound.py": _FRONT,
        "sret_nas/optimize/meet_in_the_middle.py": (f"{_S}/optimize/test_meet_in_the_middle.py", *_FRONT),
        "sret_nas/optimize/incumbents.py": (f"{_S}/optimize/test_incumbents.py", *_FRONT),
        "sret_nas/optimize/score_config.py": (f"{_S}/optimize/test_score_config.py",),
    },
    "runs": {
        "trials/runs/objectives.py": (
            f"{_R}/runs/test_pareto_archive.py",
            f"{_R}/runs/test_objectives.py",
            f"{_R}/runs/test_optuna_journal.py",
        ),
        "trials/runs/pareto_archive.py": (f"{_R}/runs/test_pareto_archive.py",),
        "trials/runs/compute_budget.py": (f"{_R}/runs/test_compute_budget.py",),
        "trials/runs/records.py": (
            *_RECORDS,
            f"{_R}/runs/test_rescued_records.py",
            f"{_R}/report/test_progress.py",
            f"{_R}/runs/test_optuna_journal.py",
        ),
        "trials/runs/optuna_journal.py": (f"{_R}/runs/test_optuna_journal.py",),
        "trials/runs/full_disk.py": (f"{_R}/runs/test_full_disk.py", *_QUICK),
        "trials/runs/record_file.py": (f"{_R}/runs/test_record_file.py", *_RECORDS),
        "trials/runs/best.py": (f"{_R}/runs/test_best.py",),
        "trials/runs/directory.py": (f"{_R}/runs/test_directory.py",),
        "trials/runs/events.py": (f"{_R}/runs/test_events.py", *_RECORDS),
        "trials/runs/objective_texts.py": (f"{_R}/runs/test_objective_texts.py",),
        "trials/runs/option_groups.py": (f"{_R}/runs/test_option_groups.py", f"{_R}/runs/test_options.py"),
        "trials/runs/run_kinds.py": (f"{_R}/runs/test_run_kinds.py",),
        "trials/runs/study.py": (f"{_R}/runs/test_study.py",),
        "trials/runs/target.py": (f"{_R}/runs/test_target.py",),
        "trials/runs/checksums.py": (
            f"{_R}/runs/test_checksums.py",
            *_RECORDS,
            f"{_R}/runs/test_record_file.py",
        ),
        "trials/runs/comparability.py": (f"{_R}/runs/test_comparability.py", f"{_R}/workflows/test_runs.py"),
        "trials/runs/create_engine.py": (f"{_R}/runs/test_create_engine.py",),
        "trials/runs/engine_options.py": (
            f"{_R}/runs/test_option_groups.py",
            f"{_R}/runs/test_options.py",
            f"{_R}/search/test_plan.py",
        ),
        "trials/runs/history.py": (*_RECORDS, *_TRIALS),
        "trials/runs/landscape_options.py": (
            f"{_R}/runs/test_landscape_options.py",
            f"{_R}/workflows/test_landscape.py",
        ),
        "trials/runs/landscape_records.py": (
            f"{_R}/runs/test_landscape_records.py",
            f"{_R}/workflows/test_landscape.py",
        ),
        "trials/runs/loaded_study.py": (f"{_R}/runs/test_study.py", f"{_R}/studies/test_progress.py"),
        "trials/runs/pick.py": (
            f"{_R}/runs/test_pick.py",
            f"{_R}/strategies/test_shallowest_budget.py",
            f"{_R}/workflows/test_runs.py",
        ),
        "trials/runs/recommendation.py": (
            f"{_R}/runs/test_recommendation.py",
            f"{_R}/runs/test_best.py",
            *_RECORDS,
            f"{_R}/report/test_front.py",
        ),
        "trials/runs/recorded_search.py": (
            f"{_R}/runs/test_recorded_search.py",
            f"{_R}/search/test_fewer_trials.py",
            f"{_R}/workflows/test_runs.py",
            f"{_R}/report/test_html.py",
            f"{_R}/runs/test_objective_texts.py",
        ),
        "trials/runs/soft_label_options.py": (
            f"{_R}/runs/test_soft_label_options.py",
            f"{_R}/workflows/test_make_soft_labels.py",
        ),
        "trials/runs/study_options.py": (
            f"{_R}/runs/test_command_options.py",
            f"{_R}/runs/test_study.py",
            f"{_R}/studies/test_progress.py",
        ),
        "trials/runs/study_records.py": (f"{_R}/runs/test_study_records.py", f"{_R}/studies/test_run.py"),
        "trials/runs/supernet_train_options.py": (
            f"{_R}/runs/test_command_options.py",
            f"{_R}/runs/test_option_groups.py",
            f"{_R}/command_line/test_options_of_runs.py",
        ),
        "trials/runs/size_prior.py": (f"{_R}/runs/test_size_prior.py",),
        "trials/runs/timeline.py": (
            f"{_R}/runs/test_command_options.py",
            f"{_R}/report/test_html.py",
            f"{_R}/runs/test_objective_texts.py",
        ),
        "trials/runs/train_options.py": (
            f"{_R}/runs/test_command_options.py",
            f"{_R}/runs/test_options.py",
        ),
        "trials/runs/trial.py": (
            f"{_R}/runs/test_uncertainty.py",
            f"{_R}/runs/test_objectives.py",
            *_RECORDS,
            f"{_R}/report/test_finals.py",
        ),
        "trials/runs/uncertainty.py": (f"{_R}/runs/test_uncertainty.py", f"{_R}/report/test_finals.py"),
        "trials/runs/remote_storage.py": (f"{_R}/runs/test_remote_storage.py",),
        "trials/runs/remote_copy.py": (*_COPIES, *_QUICK),
        "trials/runs/options.py": (
            f"{_R}/runs/test_options.py",
            f"{_R}/command_line/test_options_of_runs.py",
            f"{_R}/search/test_plan.py",
        ),
    },
}
"""Tests that build networks of whole spaces are left out: they take minutes, and the ones here see the same."""

ONLY: dict[str, tuple[str, ...]] = {}
"""Of these modules only some definitions belong to the room."""
