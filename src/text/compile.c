/*
 * compile.c
 *	  What a tokenizer's file says, laid out as compiled bytes: tries of tokens
 *	  and added tokens, tables of merges and scores.
 */
#include "text/text_int.h"

#define MAX_TOKENS (1u << 22)
#define MAX_NODES (1u << 24)	/* a node and a byte make a key of 32 bits */

/* ---- memory of strings ---- */

typedef struct txt_block
{
	struct txt_block *next;
	size_t		used,
				size;
	char		data[];
} txt_block;

char *
txt_keep(txt_source *s, size_t len)
{
	txt_block  *b = s->blocks;

	if (b == NULL || b->size - b->used < len)
	{
		size_t		size = len > 65536 ? len : 65536;

		b = mr_alloc(s->env, sizeof(txt_block) + size);
		if (b == NULL)
		{
			mr_fail(s->st, MR_NOMEM, "out of memory");
			return NULL;
		}
		b->next = s->blocks;
		b->used = 0;
		b->size = size;
		s->blocks = b;
	}
	b->used += len;
	return b->data + b->used - len;
}

void
txt_source_free(txt_source *s)
{
	while (s->blocks)
	{
		txt_block  *next = s->blocks->next;

		mr_free(s->env, s->blocks);
		s->blocks = next;
	}
	mr_free(s->env, s->token);
	mr_free(s->env, s->scores);
	mr_free(s->env, s->merges);
	mr_free(s->env, s->added);
	mr_free(s->env, s->added_text);
	mr_free(s->env, s->added_normal);
}

bool
txt_source_go_on(txt_source *s, uint32_t work)
{
	s->steps += work;
	if (s->steps < TXT_GO_ON)
		return true;
	s->steps = 0;
	return !mr_interrupted(s->env) || (mr_fail(s->st, MR_CANCELED, "canceled"), false);
}

bool
txt_check_utf8(txt_source *s, const char *data, size_t len)
{
	for (const char *p = data; p < data + len;)
	{
		int			n;

		txt_decode(p, data + len, &n);
		if (n == 1 && (unsigned char) *p >= 0x80)
		{
			mr_fail(s->st, MR_INVALID, "the tokenizer's file is not UTF-8 at byte %zu", (size_t) (p - data));
			return false;
		}
		if (!txt_source_go_on(s, 1))
			return false;
		p += n;
	}
	return true;
}

/* Kept strings are ours to change. */
static char *
unconst(const char *data)
{
	union
	{
		const char *in;
		char	   *out;
	}			u = {data};

	return u.out;
}

static bool
keep_string(txt_source *s, txt_string *out, const char *data, size_t len)
{
	char	   *copy;

	/* GPT-2's alphabet writes a byte with up to two */
	if (len > 2 * TXT_MAX_TOKEN)
	{
		mr_fail(s->st, MR_LIMIT, "a token has more than %d bytes", TXT_MAX_TOKEN);
		return false;
	}
	copy = txt_keep(s, len);
	if (copy == NULL || !txt_source_go_on(s, 64 + (uint32_t) len))
		return false;
	memcpy(copy, data, len);
	*out = (txt_string) {copy, (uint32_t) len, true};
	return true;
}

bool
txt_set_token(txt_source *s, size_t id, const char *data, size_t len)
{
	size_t		scores_size = s->tokens_size;

	if (id >= MAX_TOKENS)
	{
		mr_fail(s->st, MR_LIMIT, "token %zu is past the %u that a vocabulary may have", id, MAX_TOKENS);
		return false;
	}
	if (!txt_grow(s->env, (void **) &s->scores, id, &scores_size, sizeof(double), s->st) ||
		!txt_grow(s->env, (void **) &s->token, id, &s->tokens_size, sizeof(txt_string), s->st))
		return false;
	for (; s->n_tokens <= id; s->n_tokens++)
	{
		s->token[s->n_tokens] = (txt_string) {0};
		s->scores[s->n_tokens] = 0;
	}
	return s->token[id].given || keep_string(s, &s->token[id], data, len);
}

bool
txt_add_merge(txt_source *s, const char *left, size_t left_len, const char *right, size_t right_len)
{
	return txt_grow(s->env, (void **) &s->merges, s->n_merges, &s->merges_size, sizeof(*s->merges), s->st) &&
		keep_string(s, &s->merges[s->n_merges][0], left, left_len) &&
		keep_string(s, &s->merges[s->n_merges++][1], right, right_len);
}

bool
txt_find_token(const txt_source *s, const char *data, size_t len, int32_t *id)
{
	for (size_t i = 0; i < s->n_tokens; i++)
		if (s->token[i].given && s->token[i].len == len && memcmp(s->token[i].data, data, len) == 0)
		{
			*id = (int32_t) i;
			return true;
		}
	return false;
}

bool
txt_add_added(txt_source *s, int32_t id, uint32_t flags, bool normal, const char *data, size_t len)
{
	size_t		text_size = s->added_size,
				normal_size = s->added_size;

	if (len == 0)
		return true;
	if (!txt_grow(s->env, (void **) &s->added_text, s->n_added, &text_size, sizeof(txt_string), s->st) ||
		!txt_grow(s->env, (void **) &s->added_normal, s->n_added, &normal_size, sizeof(bool), s->st) ||
		!txt_grow(s->env, (void **) &s->added, s->n_added, &s->added_size, sizeof(txt_added), s->st) ||
		!keep_string(s, &s->added_text[s->n_added], data, len))
		return false;
	s->added[s->n_added] = (txt_added) {id, flags};
	s->added_normal[s->n_added++] = normal;
	return true;
}

/* ---- tries ---- */

typedef struct trie
{
	const mr_env *env;
	mr_status  *st;
	txt_edge   *edges;
	uint32_t	n_edges,
				size;			/* a power of two */
	int32_t    *node_id;
	size_t		n_nodes,
				nodes_size;
} trie;

static txt_edge *
slot(txt_edge *edges, uint32_t size, uint32_t key)
{
	uint32_t	i = txt_hash(key) & (size - 1);

	while (edges[i].key != 0 && edges[i].key != key)
		i = (i + 1) & (size - 1);
	return &edges[i];
}

/* Twice the edges: at most half of the table is used. */
static bool
grow_edges(trie *t)
{
	uint32_t	size = t->size ? t->size * 2 : 1024;
	txt_edge   *edges = mr_alloc(t->env, size * sizeof(txt_edge));

	if (edges == NULL)
	{
		mr_fail(t->st, MR_NOMEM, "out of memory");
		return false;
	}
	memset(edges, 0, size * sizeof(txt_edge));
	for (uint32_t i = 0; i < t->size; i++)
		if (t->edges[i].key)
			*slot(edges, size, t->edges[i].key) = t->edges[i];
	mr_free(t->env, t->edges);
	t->edges = edges;
	t->size = size;
	return true;
}

static bool
add_node(trie *t, uint32_t *node)
{
	if (t->n_nodes >= MAX_NODES)
	{
		mr_fail(t->st, MR_LIMIT, "the vocabulary is too large");
		return false;
	}
	if (!txt_grow(t->env, (void **) &t->node_id, t->n_nodes, &t->nodes_size, sizeof(int32_t), t->st))
		return false;
	*node = (uint32_t) t->n_nodes;
	t->node_id[t->n_nodes++] = -1;
	return true;
}

/* The node of a string below root, made if it is not there. */
static bool
walk(trie *t, uint32_t root, const char *data, size_t len, uint32_t *node)
{
	*node = root;
	for (size_t i = 0; i < len; i++)
	{
		uint32_t	key = *node << 8 | (unsigned char) data[i];
		txt_edge   *e;

		if (t->n_edges * 2 >= t->size && !grow_edges(t))
			return false;
		e = slot(t->edges, t->size, key);
		if (e->key == 0)
		{
			uint32_t	child;

			if (!add_node(t, &child))
				return false;
			*e = (txt_edge) {key, child};
			t->n_edges++;
		}
		*node = e->child;
	}
	return true;
}

static bool
build_tries(txt_source *s, trie *t)
{
	uint32_t	node;

	/* node 0 is none; then the three roots */
	for (int i = 0; i <= TXT_ROOT_NORMAL; i++)
		if (!add_node(t, &node))
			return false;
	if (!grow_edges(t))
		return false;
	for (size_t i = 0; i < s->n_tokens; i++)
	{
		if (!s->token[i].given || s->token[i].len == 0)
			continue;
		if (!txt_source_go_on(s, 16 * s->token[i].len) || !walk(t, TXT_ROOT, s->token[i].data, s->token[i].len, &node))
			return false;
		t->node_id[node] = (int32_t) i;
	}
	for (size_t i = 0; i < s->n_added; i++)
	{
		if (!walk(t, s->added_normal[i] ? TXT_ROOT_NORMAL : TXT_ROOT_RAW, s->added_text[i].data, s->added_text[i].len, &node))
			return false;
		t->node_id[node] = (int32_t) i;
	}
	return true;
}

/* ---- merges ---- */

/* A text in GPT-2's alphabet, in place, as the bytes it means; as it is, if it is not written so. */
static void
as_bytes(txt_string *s)
{
	char	   *data = unconst(s->data);
	uint32_t	n = 0;

	for (int pass = 0; pass < 2; pass++)
	{
		n = 0;
		for (uint32_t i = 0; i < s->len;)
		{
			int			len;
			int			byte = txt_letter_byte(txt_decode(s->data + i, s->data + s->len, &len));

			if (byte < 0)
				return;
			if (pass == 1)
				data[n] = (char) byte;
			n++;
			i += (uint32_t) len;
		}
	}
	s->len = n;
}

/* The token of a text; -1: there is none. */
static int32_t
lookup(const trie *t, const txt_string *a, const txt_string *b)
{
	uint32_t	node = TXT_ROOT;

	for (const txt_string *s = a; s; s = s == a ? b : NULL)
		for (uint32_t i = 0; i < s->len; i++)
		{
			const txt_edge *e = slot(t->edges, t->size, node << 8 | (unsigned char) s->data[i]);

			if (e->key == 0)
				return -1;
			node = e->child;
		}
	return t->node_id[node];
}

/* A table of pairs of tokens; those that the trie of the vocabulary does not have are a fault of the file. */
static txt_merge *
build_merges(txt_source *s, const trie *t, uint64_t *size)
{
	txt_merge  *table;

	for (*size = 16; *size < s->n_merges * 2; *size *= 2)
		;
	table = mr_alloc(s->env, *size * sizeof(txt_merge));
	if (table == NULL)
	{
		mr_fail(s->st, MR_NOMEM, "out of memory");
		return NULL;
	}
	memset(table, 0, *size * sizeof(txt_merge));
	for (size_t k = 0; k < s->n_merges; k++)
	{
		txt_string *part = s->merges[k];
		txt_merge	m = {lookup(t, &part[0], NULL), lookup(t, &part[1], NULL), (uint32_t) k + 1, lookup(t, &part[0], &part[1])};
		uint32_t	i = txt_hash((uint64_t) (uint32_t) m.left << 32 | (uint32_t) m.right) & (uint32_t) (*size - 1);

		if (m.left < 0 || m.right < 0 || m.id < 0)
			mr_fail(s->st, MR_INVALID, "merge %zu is of tokens that are not in the vocabulary", k + 1);
		if (s->st->code || !txt_source_go_on(s, 16 * (part[0].len + part[1].len)))
		{
			mr_free(s->env, table);
			return NULL;
		}
		while (table[i].rank != 0 && !(table[i].left == m.left && table[i].right == m.right))
			i = (i + 1) & (uint32_t) (*size - 1);
		/* of equal pairs the last counts, as in the library's table */
		table[i] = m;
	}
	return table;
}

/* ---- layout ---- */

typedef struct piece
{
	const void *data;
	uint64_t	count;
	size_t		element;
} piece;

static size_t
aligned(size_t at)
{
	return (at + 7) & ~(size_t) 7;
}

/* The head and the sections behind it; NULL: out of memory. */
static char *
write_sections(const txt_source *s, const piece p[TXT_N_SECTIONS], size_t *size)
{
	size_t		at = sizeof(txt_head);
	txt_head   *head;
	char	   *bytes;

	for (int k = 0; k < TXT_N_SECTIONS; k++)
		at = aligned(at) + p[k].count * p[k].element;
	*size = at;
	bytes = mr_alloc(s->env, *size);
	if (bytes == NULL)
	{
		mr_fail(s->st, MR_NOMEM, "out of memory");
		return NULL;
	}
	memset(bytes, 0, *size);
	head = (txt_head *) (void *) bytes;
	*head = s->head;
	head->magic = TXT_MAGIC;
	head->version = TXT_COMPILER_VERSION;
	head->size = *size;
	at = sizeof(txt_head);
	for (int k = 0; k < TXT_N_SECTIONS; k++)
	{
		at = aligned(at);
		head->at[k] = at;
		head->count[k] = p[k].count;
		if (p[k].count && p[k].data)
			memcpy(bytes + at, p[k].data, p[k].count * p[k].element);
		at += p[k].count * p[k].element;
	}
	return bytes;
}

/* Where each token's text begins, and behind the last one where it ends. */
static bool
place_texts(txt_source *s, uint32_t *text_at)
{
	uint64_t	len = 0;

	for (size_t i = 0; i < s->n_tokens; i++)
	{
		if (s->token[i].len > TXT_MAX_TOKEN)
		{
			mr_fail(s->st, MR_LIMIT, "token %zu has more than %d bytes", i, TXT_MAX_TOKEN);
			return false;
		}
		text_at[i] = (uint32_t) len;
		len += s->token[i].len;
	}
	text_at[s->n_tokens] = (uint32_t) len;
	return true;
}

/* The numbers of the double array in a precompiled normalizer: 4 bytes say how many bytes they take; texts follow. */
static bool
measure_charsmap(const txt_source *s, uint32_t *units)
{
	*units = 0;
	if (s->charsmap_len < 4)
		return true;
	memcpy(units, s->charsmap, 4);
	if (*units % 4 == 0 && *units > 0 && *units <= s->charsmap_len - 4 && s->charsmap[s->charsmap_len - 1] == '\0')
		return true;
	mr_fail(s->st, MR_INVALID, "the precompiled normalizer is damaged");
	return false;
}

mr_code
txt_lay_out(txt_source *s, void **out, size_t *out_len)
{
	trie		t = {.env = s->env, .st = s->st};
	uint32_t   *text_at = mr_alloc(s->env, (s->n_tokens + 1) * sizeof(uint32_t));
	txt_merge  *merges = NULL;
	int32_t		byte_id[256];
	uint64_t	n_merges = 0;
	char	   *bytes = NULL;
	uint32_t	units;

	*out = NULL;
	if (text_at == NULL)
	{
		mr_fail(s->st, MR_NOMEM, "out of memory");
		goto done;
	}
	if (s->n_tokens == 0)
	{
		mr_fail(s->st, MR_INVALID, "the tokenizer has no vocabulary");
		goto done;
	}
	if (s->n_added > s->n_tokens)
	{
		mr_fail(s->st, MR_INVALID, "the tokenizer has more added tokens than tokens");
		goto done;
	}
	for (size_t i = 0; s->byte_level && i < s->n_tokens; i++)
		as_bytes(&s->token[i]);
	for (size_t i = 0; s->byte_level && i < 2 * s->n_merges; i++)
		as_bytes(&s->merges[i / 2][i % 2]);
	if (!place_texts(s, text_at) || !build_tries(s, &t) || !measure_charsmap(s, &units))
		goto done;
	if (s->head.model == TXT_WORDPIECE && s->head.continuation)
	{
		uint32_t	node;

		if (!walk(&t, TXT_ROOT, "##", 2, &node))
			goto done;
		s->head.continuation = node;
	}
	if (s->head.model == TXT_BPE)
	{
		memset(byte_id, 0xff, sizeof(byte_id));
		for (size_t i = 0; i < s->n_tokens; i++)
			if (s->token[i].given && s->token[i].len == 1)
				byte_id[(unsigned char) s->token[i].data[0]] = (int32_t) i;
		merges = build_merges(s, &t, &n_merges);
		if (merges == NULL)
			goto done;
	}
	{
		const char *charsmap = units ? s->charsmap + 4 : "";
		const piece p[TXT_N_SECTIONS] = {
			[TXT_SECTION_TEXT_AT] = {text_at, s->n_tokens + 1, sizeof(uint32_t)},
			[TXT_SECTION_TEXT] = {NULL, text_at[s->n_tokens], 1},
			[TXT_SECTION_EDGES] = {t.edges, t.size, sizeof(txt_edge)},
			[TXT_SECTION_NODE_ID] = {t.node_id, t.n_nodes, sizeof(int32_t)},
			[TXT_SECTION_SCORES] = {s->scores, s->head.model == TXT_UNIGRAM ? s->n_tokens : 0, sizeof(double)},
			[TXT_SECTION_MERGES] = {merges, n_merges, sizeof(txt_merge)},
			[TXT_SECTION_BYTE_ID] = {byte_id, s->head.model == TXT_BPE ? 256 : 0, sizeof(int32_t)},
			[TXT_SECTION_ADDED] = {s->added, s->n_added, sizeof(txt_added)},
			[TXT_SECTION_CHARSMAP] = {charsmap, units / 4, sizeof(uint32_t)},
			[TXT_SECTION_CHARSMAP_TEXT] = {charsmap + units, units ? s->charsmap_len - 4 - units : 0, 1},
		};

		bytes = write_sections(s, p, out_len);
	}
	if (bytes == NULL)
		goto done;
	for (size_t i = 0; i < s->n_tokens; i++)
		if (s->token[i].len)
			memcpy(bytes + ((txt_head *) (void *) bytes)->at[TXT_SECTION_TEXT] + text_at[i], s->token[i].data, s->token[i].len);
	*out = bytes;
done:
	mr_free(s->env, text_at);
	mr_free(s->env, merges);
	mr_free(s->env, t.edges);
	mr_free(s->env, t.node_id);
	return *out ? MR_OK : s->st->code;
}
