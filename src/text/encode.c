/*
 * encode.c
 *	  A text into tokens: added tokens are cut out, what is between them is
 *	  normalized, split into words, and these are handed to the model.
 */
#include "text/text_int.h"

/* The longest added token that begins at p, and its length; -1. */
static int32_t
added_at(const txt_tokenizer *t, uint32_t root, const char *p, const char *end, size_t *len)
{
	int32_t		found = -1;
	uint32_t	node = root;

	for (const char *q = p; q < end && (node = txt_child(t, node, (unsigned char) *q)) != 0; q++)
		if (t->node_id[node] >= 0 && (uint64_t) t->node_id[node] < t->head->count[TXT_SECTION_ADDED])
		{
			found = t->node_id[node];
			*len = (size_t) (q + 1 - p);
		}
	return found;
}

/* Is the character that ends before p part of a word? */
static bool
word_before(const char *begin, const char *p)
{
	const char *q = p;
	int			len;

	if (p == begin)
		return false;
	for (q--; q > begin && p - q < 4 && ((unsigned char) *q & 0xc0) == 0x80; q--)
		;
	return txt_is_word(txt_decode(q, p, &len));
}

static bool
word_after(const char *p, const char *end)
{
	int			len;

	return p < end && txt_is_word(txt_decode(p, end, &len));
}

/* Where an added token stands, with the spaces it takes along. */
typedef struct match
{
	int32_t		i;				/* its number, or -1: there is none, and both are the end of the text */
	const char *from,
			   *to;
} match;

/* The next added token in [p, end); false: canceled. */
static bool
next_added(const txt_tokenizer *t, txt_work *w, uint32_t root, const char *begin, const char *p, const char *end, match *m)
{
	for (const char *q = p; q < end; q++)
	{
		size_t		len;
		uint32_t	flags;

		if (!txt_go_on(w, 16))
			return false;
		m->i = added_at(t, root, q, end, &len);
		if (m->i < 0)
			continue;
		flags = t->added[m->i].flags;
		if ((flags & TXT_SINGLE_WORD) && (word_before(begin, q) || word_after(q + len, end)))
			continue;
		m->from = q;
		m->to = q + len;
		if (flags & TXT_LSTRIP)
			while (m->from > p)
			{
				const char *before = m->from - 1;
				int			n;

				while (before > p && ((unsigned char) *before & 0xc0) == 0x80)
					before--;
				if (!txt_is_space(txt_decode(before, m->from, &n)))
					break;
				m->from = before;
			}
		if (flags & TXT_RSTRIP)
			for (int n; m->to < end && txt_is_space(txt_decode(m->to, end, &n)); m->to += n)
				;
		return true;
	}
	*m = (match) {-1, end, end};
	return true;
}

/* A token that no model made; from and to: bytes of the original. */
static bool
add(txt_work *w, int32_t id, size_t from, size_t to)
{
	if (!txt_grow(w->env, (void **) &w->token, w->n_tokens, &w->tokens_size, sizeof(txt_token), w->st))
		return false;
	w->token[w->n_tokens++] = (txt_token) {id, (uint32_t) from, (uint32_t) to};
	return true;
}

/* Blanks at a token's ends are no part of its place. */
static void
trim(txt_token *t, const char *text)
{
	while (t->start < t->end && text[t->start] == ' ')
		t->start++;
	while (t->end > t->start && text[t->end - 1] == ' ')
		t->end--;
}

/* Words of w->text, which is normalized, to tokens. */
static bool
encode_words(const txt_tokenizer *t, txt_work *w, bool first)
{
	if (w->text.len == 0)
		return true;
	if (!txt_split(t, w, first))
		return false;
	for (size_t i = 0; i < w->n_spans && w->n_tokens < w->enough; i++)
	{
		txt_span	s = w->span[i];
		bool		good = t->head->model == TXT_WORDPIECE ? txt_wordpiece(t, w, s) :
			t->head->model == TXT_BPE ? txt_bpe(t, w, s) : txt_unigram(t, w, s);

		if (!good || !txt_go_on(w, s.len))
			return false;
	}
	return true;
}

/* Part of the text as w->text, each byte with the character it is of. */
static bool
take(txt_work *w, const char *text, size_t from, size_t to)
{
	txt_buffer *b = &w->text;

	b->len = 0;
	if (!txt_room(w, b, to - from + 4))
		return false;
	for (size_t i = from; i < to;)
	{
		int			len = 1;

		if (!txt_go_on(w, 1))
			return false;
		if ((unsigned char) text[i] >= 0x80)
		{
			int32_t		c = txt_decode(text + i, text + to, &len);

			/* a byte that begins no character reads as one: U+FFFD */
			if (len == 1)
			{
				if (!txt_room(w, b, to - i + 4))
					return false;
				txt_put(b, c, (uint32_t) i, (uint32_t) i + 1);
				i++;
				continue;
			}
		}
		for (int k = 0; k < len; k++)
			txt_put_byte(b, text[i + (size_t) k], (uint32_t) i, (uint32_t) (i + (size_t) len));
		i += (size_t) len;
	}
	return true;
}

/* Added tokens of normalized text, and the words between them. */
static bool
encode_normal(const txt_tokenizer *t, txt_work *w, bool first)
{
	const char *p = w->text.data,
			   *end = p + w->text.len;
	txt_buffer	whole = w->text;
	match		m;
	bool		good = next_added(t, w, TXT_ROOT_NORMAL, p, p, end, &m);

	if (!good || m.i < 0)
		return good && encode_words(t, w, first);
	/* the words of a part change w->text: keep the whole aside */
	memset(&w->text, 0, sizeof(w->text));
	while (good)
	{
		size_t		at = (size_t) (p - whole.data),
					len = (size_t) (m.from - p);

		w->text.len = 0;
		good = txt_room(w, &w->text, len + 1);
		if (!good)
			break;
		memcpy(w->text.data, p, len);
		memcpy(w->text.from, whole.from + at, len * sizeof(uint32_t));
		memcpy(w->text.to, whole.to + at, len * sizeof(uint32_t));
		w->text.len = len;
		good = encode_words(t, w, first && at == 0);
		if (!good || m.i < 0)
			break;
		p = m.to;
		good = add(w, t->added[m.i].id, whole.from[m.from - whole.data], whole.to[m.to - whole.data - 1]) &&
			next_added(t, w, TXT_ROOT_NORMAL, whole.data, p, end, &m);
	}
	mr_free(w->env, w->text.data);
	mr_free(w->env, w->text.from);
	mr_free(w->env, w->text.to);
	w->text = whole;
	return good;
}

mr_code
txt_encode(const txt_tokenizer *t, txt_work *w, const char *text, size_t len, const txt_limits *limits,
		   txt_tokens *out, mr_status *st)
{
	const char *p = text,
			   *end = text + len;
	size_t		template = limits->special ? t->head->n_before + t->head->n_after : 0;
	size_t		most = limits->max_tokens == 0 ? SIZE_MAX : (size_t) limits->max_tokens > template ? (size_t) limits->max_tokens - template : 0;
	bool		raw = t->head->count[TXT_SECTION_ADDED] > 0;

	memset(out, 0, sizeof(*out));
	if (len > UINT32_MAX / 4)
		return mr_fail(st, MR_LIMIT, "text is too long");
	w->st = st;
	w->n_tokens = 0;
	/* one more than there is room for: then it is known that something was cut */
	for (uint32_t i = 0; limits->special && i < t->head->n_before; i++)
		if (!add(w, t->head->before[i], 0, 0))
			return st->code;
	w->enough = most == SIZE_MAX ? SIZE_MAX : w->n_tokens + most + 1;
	while (p < end && w->n_tokens < w->enough)
	{
		match		m = {-1, end, end};

		if (raw && !next_added(t, w, TXT_ROOT_RAW, text, p, end, &m))
			return st->code;
		if (m.from > p && (!take(w, text, (size_t) (p - text), (size_t) (m.from - text)) || !txt_normalize(t, w) ||
						   !encode_normal(t, w, p == text)))
			return st->code;
		if (m.i >= 0 && !add(w, t->added[m.i].id, (size_t) (m.from - text), (size_t) (m.to - text)))
			return st->code;
		p = m.to;
	}
	if (most != SIZE_MAX && w->n_tokens >= w->enough)
	{
		out->truncated = true;
		w->n_tokens = w->enough - 1;
	}
	for (size_t i = 0; t->head->trim && i < w->n_tokens; i++)
		trim(&w->token[i], text);
	for (uint32_t i = 0; limits->special && i < t->head->n_after; i++)
		if (!add(w, t->head->after[i], 0, 0))
			return st->code;
	out->token = w->token;
	out->n = (int) w->n_tokens;
	return MR_OK;
}
