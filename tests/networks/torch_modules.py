"""Networks around LSTMs, as people write them in PyTorch."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Bare(nn.Module):
    """nn.LSTM, outputs flat: y, h_n, c_n."""

    def __init__(self, *a, **k):
        super().__init__()
        self.lstm = nn.LSTM(*a, **k)

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        return y, h, c


class BareStates(Bare):
    def forward(self, x, h0, c0):
        y, (h, c) = self.lstm(x, (h0, c0))
        return y, h, c


class LanguageModel(nn.Module):
    def __init__(self, vocab=30, emb=12, hid=16):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb)
        self.lstm = nn.LSTM(emb, hid, num_layers=2, batch_first=True)
        self.out = nn.Linear(hid, vocab)

    def forward(self, ids):
        y, _ = self.lstm(self.emb(ids))
        return F.log_softmax(self.out(y), dim=-1)


class LanguageModelStep(LanguageModel):
    """Streaming: states go in and out."""

    def forward(self, ids, h0, c0):
        y, (h, c) = self.lstm(self.emb(ids), (h0, c0))
        return F.log_softmax(self.out(y), dim=-1), h, c


class Forecaster(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.lstm = nn.LSTM(3, 16, num_layers=2, batch_first=True)
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        y, (h, _) = self.lstm(x)
        return self.out(y[:, -1] if self.how == "last" else h[-1])


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 12, batch_first=True, bidirectional=True)
        self.out = nn.Linear(24, 5)

    def forward(self, x):
        return F.softmax(self.out(self.lstm(x)[0]), dim=-1)


class Sentiment(nn.Module):
    """Embedding -> BiLSTM -> cat of the last states of both directions -> sigmoid."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(40, 8, padding_idx=0)
        self.lstm = nn.LSTM(8, 10, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(20, 1)

    def forward(self, ids):
        _, (h, _) = self.lstm(self.emb(ids))
        return torch.sigmoid(self.out(torch.cat((h[-2], h[-1]), dim=1))).squeeze(1)


class AttentionPool(nn.Module):
    """BiLSTM -> softmax attention over time -> weighted sum -> Linear."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 8, batch_first=True, bidirectional=True)
        self.score = nn.Linear(16, 1, bias=False)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        y, _ = self.lstm(x)
        w = torch.softmax(self.score(torch.tanh(y)), dim=1)
        return self.out((w * y).sum(1)), w


class MeanMaxPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 8, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.out(torch.cat((y.mean(1), y.max(1)[0]), -1))


class Crnn(nn.Module):
    """OCR: image [N,1,16,W] -> convolutions -> [W/4,N,F] -> two BiLSTM -> log_softmax."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 8, (2, 1)),
            nn.ReLU(),
        )
        self.rnn1 = nn.LSTM(24, 12, bidirectional=True)
        self.mid = nn.Linear(24, 12)
        self.rnn2 = nn.LSTM(12, 12, bidirectional=True)
        self.out = nn.Linear(24, 11)

    def forward(self, x):
        f = self.cnn(x)  # N, 8, 3, W/4
        n, c, h, w = f.size()
        f = f.permute(3, 0, 1, 2).reshape(w, n, c * h)
        y, _ = self.rnn1(f)
        y, _ = self.rnn2(self.mid(y))
        return F.log_softmax(self.out(y), dim=2)


class ConvLstm1d(nn.Module):
    """Sensor signal [N,C,T] -> Conv1d, pool -> LSTM -> mean -> Linear."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 5, padding=2)
        self.norm = nn.BatchNorm1d(8)
        self.lstm = nn.LSTM(8, 12, batch_first=True)
        self.out = nn.Linear(12, 4)

    def forward(self, x):
        f = F.max_pool1d(F.relu(self.norm(self.conv(x))), 2)
        y, _ = self.lstm(f.transpose(1, 2))
        return self.out(y.mean(1))


class CellUnrolled(nn.Module):
    def __init__(self, steps=3):
        super().__init__()
        self.steps, self.cell = steps, nn.LSTMCell(4, 8)

    def forward(self, x):
        h = x.new_zeros(x.size(0), 8)
        c = x.new_zeros(x.size(0), 8)
        ys = []
        for t in range(self.steps):
            h, c = self.cell(x[:, t], (h, c))
            ys.append(h)
        return torch.stack(ys, 1), c


class CellStep(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.cell = nn.LSTMCell(4, 8, bias=bias)
        self.out = nn.Linear(8, 3)

    def forward(self, x, h, c):
        h, c = self.cell(x, (h, c))
        return self.out(h), h, c


class CellLoop(nn.Module):
    """A scripted loop over time: becomes an ONNX Loop."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(4, 8)

    def forward(self, x):
        h = torch.zeros(x.size(0), 8)
        c = torch.zeros(x.size(0), 8)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
        return h, c


class ProjectedLoop(nn.Module):
    """proj_size by hand, as neither exporter can write it as an LSTM node: the old one
    refuses nn.LSTM(proj_size=...), dynamo's model has a wrong shape for the cell state."""

    def __init__(self):
        super().__init__()
        self.x2g, self.h2g, self.proj = nn.Linear(4, 32), nn.Linear(5, 32, bias=False), nn.Linear(8, 5, bias=False)

    def forward(self, x):
        h = torch.zeros(x.size(0), 5)
        c = torch.zeros(x.size(0), 8)
        ys = torch.zeros(x.size(0), 0, 5)
        g = self.x2g(x)
        for t in range(x.size(1)):
            i, f, a, o = torch.chunk(g[:, t] + self.h2g(h), 4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(a)
            h = self.proj(torch.sigmoid(o) * torch.tanh(c))
            ys = torch.cat((ys, h.unsqueeze(1)), 1)
        return ys, h, c


class EncoderDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.LSTM(3, 10, batch_first=True)
        self.dec = nn.LSTM(2, 10, batch_first=True)
        self.out = nn.Linear(10, 2)

    def forward(self, src, tgt):
        _, state = self.enc(src)
        y, _ = self.dec(tgt, state)
        return self.out(y)


class Packed(nn.Module):
    def __init__(self, sort=True, bidirectional=True):
        super().__init__()
        self.sort = sort
        self.lstm = nn.LSTM(4, 8, batch_first=True, bidirectional=bidirectional)

    def forward(self, x, lengths):
        p = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=self.sort)
        y, (h, c) = self.lstm(p)
        y, n = pad_packed_sequence(y, batch_first=True)
        return y, h, c


class PackedLast(Packed):
    """Last states of both directions and the maximum over time: what a classifier of padded text uses.
    (The old exporter crashes if the padded sequence is not used at all.)"""

    def forward(self, x, lengths):
        p = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=self.sort)
        y, (h, _) = self.lstm(p)
        y, _ = pad_packed_sequence(y, batch_first=True)
        return torch.cat((h[0], h[1], y.amax(1)), -1)


class IfLength(nn.Module):
    """x.size(1) == 1 chooses a single step without the reshaping."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        if x.size(1) == 1:
            z = self.out(y.squeeze(1))
        else:
            z = self.out(y.mean(1))
        return z


class IfData(nn.Module):
    """Two LSTMs; the sum of the input decides which one runs."""

    def __init__(self):
        super().__init__()
        self.a = nn.LSTM(4, 8, batch_first=True)
        self.b = nn.LSTM(4, 8, batch_first=True)

    def forward(self, x):
        if bool(x.sum() > 0):
            y, (h, c) = self.a(x)
        else:
            y, (h, c) = self.b(x)
        return y, h, c


class Deep(nn.Module):
    """LSTM with dropout -> LayerNorm -> LSTM, residual around the second."""

    def __init__(self):
        super().__init__()
        self.a = nn.LSTM(8, 8, num_layers=2, dropout=0.5, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.norm = nn.LayerNorm(8)
        self.b = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x):
        y, _ = self.a(x)
        y = self.norm(self.drop(y))
        z, _ = self.b(y)
        return z + y


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.LSTM(8, 8), nn.LSTM(8, 8)

    def forward(self, x):
        y = self.a(x)[0] + x
        return self.b(y)[0] + y


class Denoiser(nn.Module):
    """DTLN-like mask: normalise, two streaming LSTM layers, sigmoid mask; packed state [2,N,H,2]."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(17)
        self.a, self.b = nn.LSTM(17, 12, batch_first=True), nn.LSTM(12, 12, batch_first=True)
        self.out = nn.Linear(12, 17)

    def forward(self, mag, state):
        y, (h1, c1) = self.a(self.norm(torch.log(mag + 1e-7)), (state[0:1, ..., 0].contiguous(), state[0:1, ..., 1].contiguous()))
        y, (h2, c2) = self.b(y, (state[1:2, ..., 0].contiguous(), state[1:2, ..., 1].contiguous()))
        new = torch.stack((torch.cat((h1, h2)), torch.cat((c1, c2))), -1)
        return mag * torch.sigmoid(self.out(y)), new
