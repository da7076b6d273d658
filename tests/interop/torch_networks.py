"""Two networks as PyTorch's users write them, with their usual names of weights; not made to fit this library."""

import pytest

torch = pytest.importorskip("torch", reason="the models to convert are PyTorch's; install torch")
load_file = pytest.importorskip("safetensors.torch").load_file
TF = torch.nn.functional


class Digits(torch.nn.Module):
    """The architecture of the MNIST example that PyTorch publishes, for pictures of any size."""

    def __init__(self, size=28, filters=(32, 64), hidden=128):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, filters[0], 3)
        self.conv2 = torch.nn.Conv2d(filters[0], filters[1], 3)
        self.dropout1, self.dropout2 = torch.nn.Dropout(0.25), torch.nn.Dropout(0.5)
        self.fc1 = torch.nn.Linear(filters[1] * ((size - 4) // 2) ** 2, hidden)
        self.fc2 = torch.nn.Linear(hidden, 10)

    def forward(self, pictures):
        y = TF.relu(self.conv2(TF.relu(self.conv1(pictures))))
        y = torch.flatten(self.dropout1(TF.max_pool2d(y, 2)), 1)
        y = self.dropout2(TF.relu(self.fc1(y)))
        return TF.log_softmax(self.fc2(y), dim=1)


class Sentiment(torch.nn.Module):
    """The usual classifier of texts: padded tokens, a packed bidirectional LSTM, its last states, a linear layer."""

    def __init__(self, vocabulary, embedding, hidden, classes, layers):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.rnn = torch.nn.LSTM(embedding, hidden, num_layers=layers, bidirectional=True, dropout=0.5)
        self.fc = torch.nn.Linear(2 * hidden, classes)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, text, lengths):  # (time, batch), (batch,)
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.embedding(text)), lengths, enforce_sorted=False
        )
        _, (hidden, _) = self.rnn(packed)
        return self.fc(self.dropout(torch.cat([hidden[-2], hidden[-1]], dim=1)))
