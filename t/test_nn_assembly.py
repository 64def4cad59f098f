# timeout: 300
"""The hot loops of the kernels keep their sums in registers.

Compiles the kernels of each instruction set as the Makefile does, by gcc and, where there is one, by clang; finds
the innermost loops of fused multiply-adds in the disassembly, and fails on vectors that go to the stack and back.
"""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MADD = re.compile(r'^v(fn?madd|pdp|dpbf16|pmaddwd)')
MOVE = re.compile(r'^v(mov(aps|ups|apd|upd|dqa|dqu)|fn?madd|pdp|dpbf16)')
# Transforms of Winograd's method pass 36 values through the stack on purpose: their loops are not of sums.
ON_PURPOSE = re.compile(r'^wino_')
# clang 14 leaves the sums of a few tiles of one vector in memory; they serve the last 16 channels of odd layers.
# It leaves those of many tiles of few bits, too (low_): gcc is what these are tuned for.
KNOWN = {'clang': re.compile(r'^(tile2?_(1[34]x1|1x2)s|low2?_)'), 'gcc': re.compile('$.')}


def functions(path):
    """Name and [(address, mnemonic, operands)] of each function in an object file."""
    text = subprocess.run(['objdump', '-d', '--no-show-raw-insn', path], capture_output=True, text=True, check=True).stdout
    for block in re.split(r'\n(?=[0-9a-f]+ <)', text):
        head = re.match(r'[0-9a-f]+ <(.+)>:', block)
        if head:
            lines = re.findall(r'^\s*([0-9a-f]+):\t(\S+)[ \t]*([^\n#]*)', block, re.M)
            yield head.group(1), [(int(a, 16), op, args.strip()) for a, op, args in lines]


def innermost_loops(code):
    """Slices of code from a label to the jump back to it that hold no other such jump.

    Compilers end loops by a conditional jump; an unconditional one comes from code that lies apart."""
    index = {address: i for i, (address, _, _) in enumerate(code)}
    back = []
    for i, (_, op, args) in enumerate(code):
        target = re.match(r'([0-9a-f]+) <', args) if op.startswith('j') and op != 'jmp' else None
        start = index.get(int(target.group(1), 16)) if target else None
        if start is not None and start <= i:
            back.append((start, i))
    return [code[a:b + 1] for a, b in back if not any((c, d) != (a, b) and a <= c and d <= b for c, d in back)]


def stack_traffic(code, loop):
    """Instructions of a loop that move whole vectors from or to the stack."""
    framed = any(op == 'mov' and args == '%rsp,%rbp' for _, op, args in code)
    stack = re.compile(r'\(%%r(sp%s)[,)]' % ('|bp' if framed else ''))
    return ['%s %s' % (op, args) for _, op, args in loop
            if MOVE.match(op) and stack.search(args) and '{1to' not in args and re.search('%[xyz]mm', args)]


def spilling(path):
    """(loops of multiply-adds, [(function, instructions)] of those that spill)"""
    count, bad = 0, []
    for name, code in functions(path):
        for loop in innermost_loops(code):
            if sum(1 for _, op, _ in loop if MADD.match(op)) < 4 or ON_PURPOSE.match(name):
                continue
            count += 1
            traffic = stack_traffic(code, loop)
            # constants that an exponential has no register for are only read
            if any(re.search(r',[^,]*\(%r[^,]*$', t) for t in traffic):
                bad.append((name, traffic))
    return count, bad


def isa_flags(isa):
    """What the Makefile adds for files of a set."""
    with open(os.path.join(ROOT, 'mk', 'check.mk')) as f:
        text = f.read()
    flags = re.search(r'%%_%s\.c,\$\(1\)\),([^,\n]*)' % isa, text).group(1)
    while flags.count(')') > flags.count('('):      # of $(if …)
        flags = flags[:-1]
    return re.sub(r'\$\((\w+)\)', lambda m: re.search(r'^%s *= *(.*)' % m.group(1), text, re.M).group(1), flags).split()


def compile_object(compiler, source, isa, out):
    return subprocess.run([compiler, '-std=gnu11', '-g', '-O2', '-ffp-contract=off', '-I' + os.path.join(ROOT, 'src'),
                           '-D_GNU_SOURCE'] + isa_flags(isa) + ['-c', '-o', out, source], capture_output=True, text=True)


# A tile of 20 x 2 vectors has 40 sums: they cannot stay in 32 registers.
SPILLED = '''
#include <immintrin.h>
#include "nn/kernels_core.h"
#include "nn/vec_avx512.h"
#define TILE_MR 20
#define TILE_NB 2
#define TILE_KU 4
#include "nn/kernels_tile.h"
TILE(20, 2, 16)
nn_tile_fn spilled = tile_20x2s16;
'''

if os.uname().machine != 'x86_64' or not shutil.which('objdump'):
    skip_all('needs x86-64 and objdump')
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_assembly')
os.makedirs(folder, exist_ok=True)
compilers = [c for c in (['gcc', 'clang'] if len(sys.argv) < 2 else sys.argv[1:]) if shutil.which(c)]
sources = sorted(f for f in os.listdir(os.path.join(ROOT, 'src', 'nn')) if re.match(r'kernels_.*\.c$', f))
for compiler in compilers:
    for source in sources:
        isa = next((i for i in ('avx512_vnni', 'avx512_bf16', 'avx512', 'avx2') if source.endswith('_%s.c' % i)), None)
        if isa is None:
            continue
        out = os.path.join(folder, source + '.o')
        built = compile_object(compiler, os.path.join(ROOT, 'src', 'nn', source), isa, out)
        if built.returncode:
            note('%s does not compile %s here: %s' % (compiler, source, built.stderr[:300]))
            continue
        loops, bad = spilling(out)
        bad = [(name, traffic) for name, traffic in bad if not KNOWN[compiler].match(name)]
        for name, traffic in bad:
            note('%s: %d vectors through the stack: %s' % (name, len(traffic), traffic[0]))
        ok(loops > 0 and not bad, '%s: the sums of %s stay in registers (%d loops)' % (compiler, source, loops))
    with open(os.path.join(folder, 'spilled.c'), 'w') as f:
        f.write(SPILLED)
    built = compile_object(compiler, f.name, 'avx512', f.name + '.o')
    ok(built.returncode == 0 and spilling(f.name + '.o')[1] != [], '%s: a tile too large for the registers is found out' % compiler)
done()
