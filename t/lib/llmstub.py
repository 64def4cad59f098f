"""A server of language models that misbehaves on order: Ollama's and OpenAI's paths, in a process of its own.

    with Stub(faults={'429': 0.2, 'hang': 0.02}, retry_after='1-5', latency='0.8-5', seed=7) as stub:
        stub.url                                # http://127.0.0.1:port
        stub.control(faults={}, hold=True)      # from now on; returns its state and counts
        stub.calls(task=id)                     # what it logged, in the order it came in

or from a shell, which prints the url (--help says what else):

    python t/lib/llmstub.py --port 8011 --faults '429=20%,5xx=5%' --latency 0.8-5 --log calls.jsonl
    curl -d '{"faults": {}}' http://127.0.0.1:8011/control

A *fault* is the share of requests that meet it, drawn from seed, task (header Idempotency-Key; else the prompt) and attempt alone:
a status (429 and 503 with Retry-After) | 5xx: 500, 502, 504 | hang: no answer | reset: RST amid the body | truncate: cut off amid it | cut: a
stream that ends well before its last line | json: no JSON | html: a page | error: 200 that says an error | empty: no text | tools: calls a
tool | drip: a byte now and then | huge: 100 MB | redirect | nohttp | echo, parrot: an error, an answer that repeats the key.
A prompt orders its own, by attempt, the last one for good:

    stub: 429-3 twice then hang then ok: Paris        429 with Retry-After 3; to the end of the line.  slow-2: well, after 2 s
                                                      huge-N: N bytes.  drip-0.1: a byte every 0.1 s
*answers*: {question: answer | [first, second ...]}, looked up in the prompt, or function(prompt) -> the same (None: no matter).  A list goes
on at each answer given, its last one stays.  Other answers, and vectors (texts that share words are near), depend on the prompt alone.
*latency*: seconds | low-high | lognormal:median:sigma | exp:mean.  *key*: a Bearer token without which all is 401.

The log has a line of JSON for each request, written as it is answered: received, answered (seconds since 1970; null: never), path, task,
attempt, tenant (header X-Tenant, or "user"), model, question, stream, status, fault, retry_after, left (the client did not wait).
"""
import argparse
import asyncio
import base64
import collections
import hashlib
import json
import logging
import math
import multiprocessing
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import tempfile
import time
import urllib.request

STATUSES = {200: 'OK', 302: 'Found', 400: 'Bad Request', 401: 'Unauthorized', 402: 'Payment Required', 403: 'Forbidden', 404: 'Not Found',
            422: 'Unprocessable Entity', 429: 'Too Many Requests', 500: 'Internal Server Error', 503: 'Service Unavailable'}
STEP = re.compile(r'([a-z]+|\d{3}|5xx)(?:-([\d.]+))?(?:\s+(once|twice|\d+ times))?(:)?')
WORDS = ('time water stone light river garden paper music winter silver north engine harbour letter window field bridge market island '
         'summer forest copper signal valley number answer history science').split()


def tokens(text):
    return len(text) // 4 + 1


def chances(*of):
    """Four numbers within [0, 1) that depend on the arguments alone."""
    digest = hashlib.blake2b('\0'.join(map(str, of)).encode(), digest_size=32).digest()
    return [n / 2 ** 64 for n in struct.unpack('<4Q', digest)]


def between(text, u):
    """"2" or "1-5"."""
    low, _, high = str(text).partition('-')
    return float(low) + (float(high) - float(low)) * u if high else float(low)


def seconds(distribution, u):
    kind, *numbers = str(distribution).split(':')
    if kind == 'exp':
        return -float(numbers[0]) * math.log(1 - u)
    if kind == 'lognormal':
        # the logistic law's quantile, which is near enough to the normal's
        return float(numbers[0]) * math.exp(float(numbers[1]) * math.log(max(u, 1e-9) / max(1 - u, 1e-9)) / 1.702)
    return between(distribution, u)


def ordered(prompt, attempt):
    """(fault or 'ok', argument, text) that a prompt orders for an attempt (from 1), or None."""
    at = prompt.find('stub: ')
    if at < 0:
        return None
    line, step = prompt[at + 6:].split('\n', 1)[0], None
    while match := STEP.match(line):
        what, argument, times, colon = match.groups()
        if what == 'ok':
            return 'ok', None, line[match.end():].strip() if colon else None
        n = {None: 1, 'once': 1, 'twice': 2}.get(times) or int(times.split()[0])
        step, line = (what, argument, None), line[match.end():].strip()
        if attempt <= n or not line.startswith('then '):
            return step
        attempt, line = attempt - n, line[5:].strip()
    return step


class Vectors:
    """The sum of its words' vectors, of length 1."""

    def __init__(self, dim):
        self.dim, self.words = dim, {}

    def word(self, word):
        if word not in self.words:
            numbers, n = [], 0
            while len(numbers) < self.dim:
                numbers += [u - 0.5 for u in chances('vector', word, n)]
                n += 1
            self.words[word] = numbers[:self.dim]
        return self.words[word]

    def of(self, text):
        vector = [sum(v) for v in zip(*map(self.word, re.findall(r'\w+', text.lower()) or ['']))]
        length = math.sqrt(sum(v * v for v in vector))
        return [round(v / length, 6) for v in vector]


class Settings:
    """What /control sets."""

    def __init__(self, answers=None, **given):
        self.seed, self.faults, self.latency, self.retry_after, self.key = 1, {}, 0, '1-3', None
        self.hold, self.dim, self.answers, self.said = False, 64, None, collections.Counter()
        self.change(answers=answers, **given)

    def change(self, **given):
        for name, value in given.items():
            if name not in ('seed', 'faults', 'latency', 'retry_after', 'key', 'hold', 'dim', 'answers'):
                raise ValueError(f'unknown setting {name}')
            setattr(self, name, value)
        self.vectors = Vectors(self.dim)

    def scripted(self, prompt):
        """The text that was ordered for a prompt, or None."""
        if callable(self.answers):
            answers = self.answers(prompt)
        else:
            answers = next((a for q, a in (self.answers or {}).items() if q in prompt), None)
        if answers is None or isinstance(answers, str):
            return answers
        n = self.said[tuple(answers)]
        self.said[tuple(answers)] += 1
        return answers[min(n, len(answers) - 1)]


class Call:
    """A request, and its answer."""

    def __init__(self, stub, path, headers, body):
        self.path, self.headers, self.received = path, headers, time.time()
        try:
            self.body = json.loads(body or b'{}')
        except ValueError:
            self.body = None
        b = self.body if isinstance(self.body, dict) else {}
        messages = [m.get('content') or '' for m in b.get('messages', [])]
        texts = b.get('input', b.get('prompt', ''))
        self.inputs = texts if isinstance(texts, list) else [texts]
        self.prompt = '\n'.join(str(m) for m in ([b.get('system') or '', *messages] if messages else self.inputs))
        self.question = str(messages[-1] if messages else self.inputs[0] if self.inputs else '')
        self.model, self.ollama = b.get('model', 'stub'), '/api/' in path
        self.stream = bool(b.get('stream', self.ollama and not path.endswith(('/embed', '/embeddings'))))
        self.json = b.get('format') is not None or (b.get('response_format') or {}).get('type', 'text') != 'text'
        self.usage = self.ollama or (b.get('stream_options') or {}).get('include_usage')
        self.base64 = b.get('encoding_format') == 'base64'
        self.task = headers.get('idempotency-key')
        self.tenant = headers.get('x-tenant', b.get('user'))
        key = self.task or self.prompt
        stub.attempts[key] += 1
        self.attempt = stub.attempts[key]
        self.status = self.fault = self.retry_after = None
        self.u = chances(stub.settings.seed, key, self.attempt)

    def line(self, answered, left):
        return json.dumps({'received': self.received, 'answered': answered, 'path': self.path, 'task': self.task, 'attempt': self.attempt,
                           'tenant': self.tenant, 'model': self.model, 'question': self.question[:200], 'stream': self.stream,
                           'status': self.status, 'fault': self.fault, 'retry_after': self.retry_after, 'left': left}) + '\n'

    def text(self, settings):
        scripted = settings.scripted(self.prompt)
        if scripted is not None:
            return scripted
        n = int(chances(self.prompt)[0] * 1e9)
        said = ' '.join(WORDS[(n >> 3 * i) % len(WORDS)] for i in range(8)) + '.'
        return json.dumps({'answer': said}) if self.json else said

    def pieces(self, text, fault):
        """The answer's body: a list of lines of a stream, or one of a single document."""
        text = '' if fault == 'tools' else text
        now, words = '2026-01-01T00:00:00.000000Z', re.findall(r'\s*\S+\s*', text)
        n_in, n_out = tokens(self.prompt), tokens(text)
        tools = [{'id': 'call_1', 'type': 'function', 'function': {'name': 'weather', 'arguments': '{}'}}] if fault == 'tools' else None
        if self.ollama:
            chat = self.path.endswith('/chat')

            def part(said, **more):
                said = {'message': {'role': 'assistant', 'content': said, **({'tool_calls': tools} if tools else {})}} if chat else {'response': said}
                return json.dumps({'model': self.model, 'created_at': now, **said, 'done': False, **more}) + '\n'
            end = {'done': True, 'done_reason': 'stop', 'total_duration': 1000000, 'prompt_eval_count': n_in, 'eval_count': n_out}
            return [*map(part, words), part('', **end)] if self.stream else [part(text, **end)]
        usage = {'prompt_tokens': n_in, 'completion_tokens': n_out, 'total_tokens': n_in + n_out}
        head = {'id': 'chatcmpl-1', 'created': 1767225600, 'model': self.model}
        finish = 'tool_calls' if tools else 'stop'
        if not self.stream:
            message = {'role': 'assistant', 'content': None if tools else text, **({'tool_calls': tools} if tools else {})}
            return [json.dumps({**head, 'object': 'chat.completion', 'choices': [{'index': 0, 'message': message, 'logprobs': None, 'finish_reason': finish}],
                                'usage': usage})]

        def chunk(delta, finish=None):
            return 'data: ' + json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]}) + '\n\n'
        lines = [chunk({'role': 'assistant', 'content': ''}), *(chunk({'content': w}) for w in words), chunk({'tool_calls': tools} if tools else {}, finish)]
        if self.usage:
            lines.append('data: ' + json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [], 'usage': usage}) + '\n\n')
        return lines + ['data: [DONE]\n\n']

    def embeddings(self, vectors):
        found = [vectors.of(str(t)) for t in self.inputs]
        n_in = sum(tokens(str(t)) for t in self.inputs)
        if self.path.endswith('/api/embed'):
            return json.dumps({'model': self.model, 'embeddings': found, 'total_duration': 1000000, 'prompt_eval_count': n_in})
        if self.ollama:
            return json.dumps({'embedding': found[0]})
        if self.base64:
            found = [base64.b64encode(struct.pack(f'<{len(v)}f', *v)).decode() for v in found]
        return json.dumps({'object': 'list', 'data': [{'object': 'embedding', 'index': i, 'embedding': v} for i, v in enumerate(found)],
                           'model': self.model, 'usage': {'prompt_tokens': n_in, 'total_tokens': n_in}})

    def error(self, message, kind='stub_error'):
        return json.dumps({'error': message if self.ollama else {'message': message, 'type': kind, 'param': None, 'code': kind}})


class Connection(asyncio.Protocol):
    def __init__(self, stub):
        self.stub, self.buffer, self.call, self.timer, self.writable = stub, b'', None, None, True

    def connection_made(self, transport):
        self.transport = transport
        self.stub.connections.add(self)
        transport.get_extra_info('socket').setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error):
        self.stub.connections.discard(self)
        self.finish(None, left=True)

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True

    def data_received(self, data):
        self.buffer += data
        self.next()

    def next(self):
        """Begin with the next request, once it is here as a whole."""
        end = self.buffer.find(b'\r\n\r\n')
        if self.call or end < 0:
            return
        first, *lines = self.buffer[:end].decode('latin-1').split('\r\n')
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(':') for line in lines)}
        length = int(headers.get('content-length', 0))
        if len(self.buffer) < end + 4 + length:
            if headers.pop('expect', '') and len(self.buffer) == end + 4:
                self.transport.write(b'HTTP/1.1 100 Continue\r\n\r\n')
            return
        body, self.buffer = self.buffer[end + 4:end + 4 + length], self.buffer[end + 4 + length:]
        method, path, _ = (first + '  ').split(' ', 2)
        path = path.split('?')[0]
        if path == '/control':
            return self.control(body)
        if method == 'GET':
            return self.send(200, json.dumps({'models': [], 'data': [], 'version': 'stub'}))
        self.call = Call(self.stub, path, headers, body)
        self.stub.requests += 1
        self.decide(self.call)

    def control(self, body):
        try:
            if body:
                self.stub.change(json.loads(body))
            self.send(200, json.dumps(self.stub.state()))
        except (ValueError, TypeError, AttributeError) as e:
            self.send(400, json.dumps({'error': str(e)}))
        self.next()

    def decide(self, call):
        """What this call gets, and when."""
        settings = self.stub.settings
        known = ('/chat/completions', '/embeddings', '/api/generate', '/api/chat', '/api/embed')
        order = ordered(call.prompt, call.attempt)
        what, argument, text = order or ('ok', None, None)
        if not call.path.endswith(known):
            what, argument = '404', None
        elif not isinstance(call.body, dict) or 'model' not in call.body:
            what, argument = '400', None
        elif settings.key and call.headers.get('authorization') != 'Bearer ' + settings.key:
            what, argument = '401', None
        elif not order:
            u = call.u[0]
            for fault, share in settings.faults.items():
                if (u := u - share) < 0:
                    what = fault
                    break
        wait = float(argument) if what == 'slow' and argument else seconds(settings.latency, call.u[1])
        call.fault = None if what in ('ok', 'slow') else what
        if what == '5xx':
            what = ('500', '502', '504')[int(call.u[2] * 3)]
        if what == 'hang':
            return
        if wait > 0 or settings.hold:
            self.later(wait, self.answer, call, what, argument, text)
        else:
            self.answer(call, what, argument, text)

    def later(self, wait, function, *arguments):
        self.timer = asyncio.get_running_loop().call_later(wait, function, *arguments)

    def answer(self, call, what, argument, text):
        settings = self.stub.settings
        if settings.hold:
            return self.later(0.02, self.answer, call, what, argument, text)
        if what.isdigit() and what != '200':
            more = ''
            if what in ('429', '503'):
                call.retry_after = float(argument) if argument else math.ceil(between(settings.retry_after, call.u[3]))
                more = f'Retry-After: {call.retry_after:g}\r\n' if call.retry_after else ''
                call.retry_after = call.retry_after or None
            kind = {'401': 'invalid_api_key', '402': 'insufficient_quota', '429': 'rate_limit_exceeded'}.get(what, 'stub_error')
            return self.send(int(what), call.error(f'stub says {what}', kind), more)
        if what == 'echo':
            return self.send(400, call.error('no good key: ' + call.headers.get('authorization', '')))
        if what == 'parrot':
            text = call.headers.get('authorization', '')
        if what == 'redirect':
            return self.send(302, '', f'Location: {self.stub.url}/elsewhere{call.path}\r\n')
        if what == 'html':
            return self.send(200, '<html><body>Please log in</body></html>', kind='text/html')
        if what == 'nohttp':
            self.finish(200)
            self.transport.write(b'220 smtp.example.org ESMTP\r\n')
            return self.transport.close()
        if what == 'huge':
            return self.huge(int(float(argument)) if argument else 100_000_000)
        vectors = call.path.endswith(('/embed', '/embeddings'))
        if what == 'error':
            pieces = [call.error('stub says no')]
        elif vectors:
            pieces = [call.embeddings(settings.vectors)]
        else:
            pieces = call.pieces('' if what == 'empty' else call.text(settings) if text is None else text, what)
        body = [p.encode() for p in pieces]
        if what == 'json':
            body[-1] = body[-1][:len(body[-1]) // 2] + b'\x01}'
        kind = 'application/json' if len(body) == 1 else 'application/x-ndjson' if call.ollama else 'text/event-stream'
        if what in ('reset', 'truncate', 'drip', 'cut'):
            return self.spoil(call, what, argument, b''.join(body), b''.join(body[:max(1, len(body) // 2)]), kind)
        if len(body) > 1:
            self.head(200, 'Transfer-Encoding: chunked\r\n', kind)
            self.transport.write(b''.join(b'%x\r\n%s\r\n' % (len(p), p) for p in body) + b'0\r\n\r\n')
            self.finish(200)
            return self.next()
        self.send(200, body[0], kind=kind)

    def spoil(self, call, what, argument, body, half, kind):
        """A good beginning."""
        if what == 'cut' and call.stream:
            self.head(200, 'Transfer-Encoding: chunked\r\n', kind)
            self.transport.write(b'%x\r\n%s\r\n0\r\n\r\n' % (len(half), half))
            self.finish(200)
            return self.next()
        self.head(200, f'Content-Length: {len(body)}\r\n', kind)
        if what == 'drip':
            call.status = 200
            return self.drip(body, float(argument or 0.2))
        self.transport.write(body[:len(body) // 2])
        self.finish(200)
        if what == 'reset':
            self.transport.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            return self.transport.abort()
        self.transport.close()

    def drip(self, body, pause):
        self.transport.write(body[:1])
        if len(body) > 1:
            return self.later(pause, self.drip, body[1:], pause)
        self.finish(200)
        self.next()

    def huge(self, left):
        """Blanks, as fast as they are taken."""
        if self.call.status is None:
            self.head(200, f'Content-Length: {left}\r\n')
            self.call.status = 200
        for _ in range(16):
            if left > 0 and self.writable:
                self.transport.write(b' ' * min(left, 65536))
                left -= min(left, 65536)
        if left > 0:
            return self.later(0.001, self.huge, left)
        self.finish(200)
        self.next()

    def head(self, status, headers='', kind='application/json'):
        self.transport.write(f'HTTP/1.1 {status} {STATUSES.get(status, "Status")}\r\nContent-Type: {kind}\r\n{headers}\r\n'.encode())

    def send(self, status, body, headers='', kind='application/json'):
        body = body.encode() if isinstance(body, str) else body
        answered = self.call is not None
        self.finish(status)
        head = f'HTTP/1.1 {status} {STATUSES.get(status, "Status")}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n'
        self.transport.write(head.encode() + body)
        if answered:
            self.next()

    def finish(self, status, left=False):
        """The call is over: it is logged just before its last byte is sent."""
        if self.timer:
            self.timer.cancel()
        if self.call:
            self.call.status = self.call.status or status
            self.stub.note(self.call, None if left else time.time(), left)
            self.call = self.timer = None


class Server:
    def __init__(self, log, settings):
        self.settings, self.connections, self.attempts, self.requests = settings, set(), collections.Counter(), 0
        self.counts, self.log = collections.Counter(), open(log, 'ab', buffering=0) if log else None

    def note(self, call, answered, left):
        self.counts[call.fault or 'ok'] += 1
        if self.log:
            self.log.write(call.line(answered, left).encode())

    def state(self):
        return {'requests': self.requests, 'counts': self.counts, 'connections': len(self.connections),
                'calls': sum(1 for c in self.connections if c.call), 'faults': self.settings.faults, 'latency': self.settings.latency,
                'hold': self.settings.hold, 'seed': self.settings.seed}

    def change(self, given):
        if isinstance(given.get('faults'), str):
            given['faults'] = shares(given['faults'])
        if given.pop('clear', False):
            self.attempts.clear()
            self.counts.clear()
            self.settings.said.clear()
            self.requests = 0
        self.settings.change(**given)

    async def serve(self, port, context, ready):
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end.set)
        server = await loop.create_server(lambda: Connection(self), '127.0.0.1', port, backlog=1024, ssl=context)
        port = server.sockets[0].getsockname()[1]
        self.url = 'http%s://127.0.0.1:%d' % ('s' if context else '', port)
        ready(port)
        await end.wait()
        for connection in list(self.connections):
            connection.finish(None, left=True)


def shares(text):
    """'429=20%,hang=0.02' -> {'429': 0.2, 'hang': 0.02}"""
    pairs = [pair.partition('=') for pair in text.split(',') if pair]
    return {name.strip(): float(share.strip('% ')) / (100 if '%' in share else 1) for name, _, share in pairs}


class Stub:
    def __init__(self, log=None, certificate=None, **settings):
        """log: file that calls are appended to; else one that goes with us.  certificate: PEM file with its key, for HTTPS."""
        self.settings = Settings(**settings)
        self.folder = None if log else tempfile.mkdtemp(prefix='llmstub')
        self.log, self.certificate, self.port = log or self.folder + '/calls', certificate, 0

    def __enter__(self):
        self.start()
        return self

    def start(self):
        """At the port it had before, if any."""
        ours, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context('fork').Process(target=self.run, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.port = ours.recv()
        self.url = 'http%s://127.0.0.1:%d' % ('s' if self.certificate else '', self.port)

    def run(self, pipe):
        logging.getLogger('asyncio').setLevel(logging.ERROR)     # it warns of clients that are gone
        context = None
        if self.certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.certificate)
        asyncio.run(Server(self.log, self.settings).serve(self.port, context, pipe.send))

    def stop(self):
        """Connections are refused until start(); it forgets which attempts it saw."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.join()

    def __exit__(self, *exc):
        if self.process.is_alive():
            self.stop()
        if self.folder:
            shutil.rmtree(self.folder)

    def control(self, **settings):
        context = ssl._create_unverified_context() if self.certificate else None
        request = urllib.request.Request(self.url + '/control', json.dumps(settings).encode() if settings else None)
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return json.load(answer)

    def calls(self, **wanted):
        """Requests that have ended, by the time they came in; task='...', status=429 and so on choose among them."""
        with open(self.log, encoding='utf-8') as f:
            found = [json.loads(line) for line in f]
        return sorted((c for c in found if all(c[k] == v for k, v in wanted.items())), key=lambda c: c['received'])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--port', type=int, default=0)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--faults', type=shares, default={}, help="'429=20%%,5xx=5%%,hang=2%%'")
    parser.add_argument('--latency', default='0')
    parser.add_argument('--retry-after', default='1-3', help='seconds; 0: none')
    parser.add_argument('--key', help='that requests must bear')
    parser.add_argument('--dim', type=int, default=64, help='of vectors')
    parser.add_argument('--answers', type=argparse.FileType(), help='file of JSON')
    parser.add_argument('--log', help='file that calls are appended to')
    o = parser.parse_args()
    settings = Settings(seed=o.seed, faults=o.faults, latency=o.latency, retry_after=o.retry_after, key=o.key, dim=o.dim,
                        answers=json.load(o.answers) if o.answers else None)
    server = Server(o.log, settings)
    asyncio.run(server.serve(o.port, None, lambda port: print(server.url, flush=True)))


if __name__ == '__main__':
    main()
