"""The engine as a process that runs ONNX models given as bytes: unit/bin/nn_jobs."""
import os
import struct
import subprocess

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 12: np.uint32, 13: np.uint64}


class Refused(Exception):
    pass


class Died(Exception):
    pass


class Engine:
    def __init__(self):
        self.process = None

    def run(self, model, inputs, isa='auto', batch=1, shaped=True):
        """Outputs of the model for numpy inputs, whose first dimension is the batch if it is not 1."""
        if self.process is None:
            self.process = subprocess.Popen([os.path.join(ROOT, 'unit', 'bin', 'nn_jobs')], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out = [struct.pack('<i', len(model)), model, struct.pack('<i', len(isa)), isa.encode(), struct.pack('<ii', batch, len(inputs))]
        for a in inputs:
            shape = a.shape if shaped and batch == 1 else None
            out.append(struct.pack('<i', -1) if shape is None else struct.pack('<i%dq' % len(shape), len(shape), *shape))
            b = np.ascontiguousarray(a).tobytes()
            out += [struct.pack('<i', len(b)), b]
        try:
            self.process.stdin.write(b''.join(out))
            self.process.stdin.flush()
            code = self.take('i')
            if code:
                raise Refused(self.process.stdout.read(self.take('i')).decode(errors='replace'))
            return [self.tensor() for _ in range(self.take('i'))]
        except (BrokenPipeError, struct.error):
            code = self.process.wait()
            self.process = None
            raise Died('exit %d' % code)

    def take(self, form):
        return struct.unpack('<' + form, self.process.stdout.read(struct.calcsize('<' + form)))[0]

    def tensor(self):
        dtype, rank = self.take('i'), self.take('i')
        shape = [self.take('q') for _ in range(rank)]
        return np.frombuffer(self.process.stdout.read(self.take('i')), TYPES[dtype]).reshape(shape)
