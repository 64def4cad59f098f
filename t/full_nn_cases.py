# timeout: 900
"""The operator cases of the installed onnx package, made from its own definitions, as models of opset 22.

Twice as many as the archive of unit/test_nn_conformance.c holds, and newer; that program runs them.  A case whose
operator has no form in opset 22 is left out.
"""
import os
import subprocess
import sys
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
try:
    warnings.simplefilter('ignore')
    from onnx import TensorProto, defs, numpy_helper
    from onnx.backend.test.case.node import collect_testcases
except ImportError as e:
    skip_all(str(e))
folder = os.environ.get('MILLRACE_TMP', 'tmp/full_nn_cases')


def fits(model):
    """Does every node exist in opset 22 with the attributes and inputs it has?"""
    for node in model.graph.node:
        if node.domain == '':
            try:
                schema = defs.get_schema(node.op_type, 21, '')
            except defs.SchemaError:
                return False
            if len(node.input) > schema.max_input or any(a.name not in schema.attributes for a in node.attribute):
                return False
    return True


def write(path, message):
    with open(path, 'wb') as f:
        f.write(message.SerializeToString())


made = 0
for case in collect_testcases(None):
    if not fits(case.model):
        continue
    for opset in case.model.opset_import:
        opset.version = min(opset.version, 22 if opset.domain == '' else 5)
    home = '%s/%s' % (folder, case.name)
    try:
        tensors = [[(kind, k, t if isinstance(t, TensorProto) else numpy_helper.from_array(t)) for kind, part in zip(('input', 'output'), both)
                    for k, t in enumerate(part)] for both in case.data_sets]
    except AttributeError:              # sequences, optionals
        continue
    os.makedirs(home, exist_ok=True)
    write(home + '/model.onnx', case.model)
    for i, data_set in enumerate(tensors):
        os.makedirs('%s/test_data_set_%d' % (home, i), exist_ok=True)
        for kind, k, tensor in data_set:
            write('%s/test_data_set_%d/%s_%d.pb' % (home, i, kind, k), tensor)
    made += 1

ran = subprocess.run([os.path.join(ROOT, 'unit', 'bin', 'test_nn_conformance'), folder], cwd=ROOT, capture_output=True, text=True)
lines = ran.stdout.splitlines()
note('\n'.join(line for line in lines if ' wrong' in line) + ran.stderr[-2000:])
ok(made > 900, '%d cases are made' % made)
ok(any(line.startswith('ok 1 ') for line in lines), 'none is wrong, crashes or hangs')
refused = sum(line.startswith('# refused') for line in lines)
ok(refused < .2 * made, '%d of them are refused: strings, sequences, float8, 4-bit integers, control flow, random, training' % refused)
done()
