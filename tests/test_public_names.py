"""The public names of every package, so that none changes by accident."""

import importlib

import pytest

NAMES = {
    package: set(names.split())
    for package, names in {
        "functional": """
            Activation Blocks BoxMaps BoxTargets Cell ConvLSTMParams ConvLSTMState Detections Directions GRUParams
            GRUState Generated LRUParams LRUState LSTMNorm LSTMParams LSTMState Labelling MinGRUParams MinGRUState
            MinLSTMParams MinLSTMState Newton NewtonInfo RNNParams RNNState SLSTMParams SLSTMState adaptive_avg_pool
            adaptive_max_pool attention avg_pool beam_search bidirectional chrono conv conv_lstm conv_lstm_cell
            conv_lstm_step conv_transpose convolutions_saveable ctc_beam_search ctc_greedy decode_boxes dense
            encode_boxes feature_maps filter_logits forget_bias global_avg_pool global_max_pool greedy gru gru_cell
            gru_step init_conv_lstm init_gru init_lru init_lstm init_mingru init_minlstm init_rnn init_slstm log_mel
            lp_pool lru lru_cell lru_step lstm lstm_cell lstm_step max_pool mel_filters mingru mingru_cell
            mingru_step minlstm minlstm_cell minlstm_step per_gate recurrent recurrent_step recurrent_with_info rnn
            rnn_cell rnn_step sample slstm slstm_cell slstm_step stack stack_step true_convolution
        """,
        "modules": """
            AvgPool Cell Conv ConvTranspose Decoder Dense Encoded Encoder Flatten GRU GRUCell LSTM LSTMCell MaxPool
            RNN RNNCell Recurrent
        """,
        "models": "Cifar10Net Detector Forecaster LanguageModel LeNet LeNet5 MLP RowReader TextClassifier Transcriber",
        "train": """
            Checkpoints Generated RunFolder STOP TrainState augment checkpoint create_state devices early_stopping
            ensemble evaluate export fit image_preprocess jit load loop losses make_epoch make_step optimizer
            parallel precision predict run save step time_limit
        """,
        "train.checkpoint": """
            CheckpointError CheckpointWarning Checkpoints Interrupted Position Saver load restore save
        """,
        "train.devices": "OutOfMemoryError Parallel ProcessLostError distributed parallel",
        "train.ensemble": "Setting create diverged fit grid make member predict settings",
        "train.loop": """
            Budget Chunk Computed Generated NonFiniteLossError Program STOP Segments Sink Stateful StreamedEpoch
            TBPTT bits_per_token cosine drive dry_run early_stopping epoch_order fit make_epoch next_token_loss
            plain_errors time_limit
        """,
        "train.losses": """
            LossFn Metrics Penalty binary classification ctc detection heatmap l2 quantile regression sequence
            weight_mask
        """,
        "train.run": "History Record RunFolder TensorBoard load_config resume_run start_run",
        "train.step": """
            LossScale Precision Preprocess RetraceWarning TrainState augment compiler_options create_state evaluate
            export hyperparameters image_preprocess jit make_step optimizer precision predict with_hyperparameters
        """,
        "cli": """
            Bound Cosine Count Devices Epochs Kept MOST Natural Number Positive Several Share Trained as_typed check
            check_run dry_run expect folder_of join keeping option parallel_of run steps_of unused
        """,
        "inspect": "Cost Reliability Scores cost flops occlusion reach reliability scores summary",
        "plots": """
            Forecasted Heard attention by_setting compare confusion curves detections filters forecasts highlights
            images predictions reliability spread transcripts
        """,
        "kernels": "plain",
        "metrics": """
            AveragePrecision box_iou character_error_rate coverage edit_distance interval_score mase match_boxes
            mean_average_precision naive_error word_error_rate
        """,
        "files": "locked replacing steady_output",
        "data": """
            ArrayFiles Boxed BoxedPictures Dataset DownloadError Examples Recordings Series Source Spoken Stream
            TextDataset Texts Vocabulary WorkerDiedError cache_dir channel_statistics check_dataset download load
            load_coco load_digits load_idx load_languages load_pictures load_recordings load_series load_texts
            read_idx read_picture read_series read_wav speak split split_speakers
        """,
        "interop": """
            Layout Program Report Row Step export_program flax from_flax from_keras from_torch keras load_about
            load_folder load_program load_weights save_folder save_weights to_flax to_keras to_torch torch
        """,
        "testing": """
            Tolerance assert_cell assert_close assert_close_to_oracle assert_gradients assert_invariant
            assert_sequence_invariant assert_traces compiled_ops count_host_transfers forbid_host_transfers
            layer_checks record_compilations record_traces tolerance
        """,
    }.items()
}


@pytest.mark.parametrize("package", NAMES)
def test_public_names(package):
    module = importlib.import_module(f"jaxnn.{package}")
    assert sorted(module.__all__) == sorted(NAMES[package])
    assert {name for name, value in vars(module).items() if is_of_jaxnn(name, value)} <= NAMES[package]


def is_of_jaxnn(name, value):
    """Whether a name looks public: a function, class or constant of the package that has no underscore."""
    return not name.startswith("_") and str(getattr(value, "__module__", "")).startswith("jaxnn.")
