"""The options of `study run`, given and recorded."""

from __future__ import annotations

from trials.runs.study_options import StudyOptions


def test_a_resumed_study_keeps_the_images_that_it_was_begun_with() -> None:
    """The study's own bounds hold only where the command line gave none."""
    options = StudyOptions.parse({"study": "loops", "max_train_images": 300, "split_seed": 3}, "study run")
    loaded = options.load()
    config = options.data_config_of(loaded)
    assert (config.max_train, config.max_val) == (300, loaded.study.data.max_val_images)
    recorded = StudyOptions.parse(options.model_dump(mode="json"), "records")
    for given in ({}, {"seeds": 9}):
        assert recorded.resumed_with(given).data_config_of(loaded) == config
