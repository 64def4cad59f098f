/*
 * text_int.h
 *	  What the files of the text core share: the compiled form, buffers, Unicode.
 *
 * Compiled bytes are little-endian and are used where they lie: head, then the
 * sections in the order of txt_section, each 8-byte aligned.
 */
#ifndef MILLRACE_TEXT_INT_H
#define MILLRACE_TEXT_INT_H

#include <string.h>

#include "text/text.h"

#define TXT_MAGIC UINT64_C(0x314b4f5452494d4d)	/* "MMIRTOK1" */
#define TXT_MAX_STEPS 16
#define TXT_MAX_TEMPLATE 8
#define TXT_MAX_TOKEN 1024		/* bytes of a token: a text's time is linear with this as its factor */
#define TXT_GO_ON 65536			/* steps, of some nanoseconds each, between two looks for interrupts */

typedef enum txt_model
{
	TXT_WORDPIECE = 1,
	TXT_BPE,
	TXT_UNIGRAM
} txt_model;

typedef enum txt_op
{
	/* normalizers: text to text */
	TXT_BERT = 1,				/* flag: TXT_CLEAN | … */
	TXT_NORMAL_FORM,			/* flag: TXT_COMPOSE, TXT_COMPATIBLE */
	TXT_LOWERCASE,
	TXT_NO_ACCENTS,				/* marks go */
	TXT_STRIP,					/* flag: TXT_LEFT | TXT_RIGHT */
	TXT_REPLACE,				/* a by b; flag TXT_REPEATED: two or more of a */
	TXT_PREPEND,				/* a before a text that is not empty */
	TXT_CHARSMAP,
	/* splitters: text to words */
	TXT_SPLIT_BERT = 32,
	TXT_SPLIT_SPACE,
	TXT_SPLIT_WORDS,			/* \w+|[^\w\s]+ */
	TXT_SPLIT_PUNCTUATION,
	TXT_SPLIT_DIGITS,
	TXT_SPLIT_BYTES,			/* GPT-2's; flag: TXT_SPACE_BEFORE, TXT_PATTERN */
	TXT_METASPACE,				/* spaces become a; flag: TXT_SPACE_BEFORE, TXT_FIRST_ONLY, TXT_SPLIT */
} txt_op;

#define TXT_CLEAN		1
#define TXT_CHINESE		2
#define TXT_ACCENTS		4
#define TXT_LOWER		8
#define TXT_COMPOSE		1
#define TXT_COMPATIBLE	2
#define TXT_LEFT		1
#define TXT_RIGHT		2
#define TXT_REPEATED	1
#define TXT_SPACE_BEFORE 1
#define TXT_FIRST_ONLY	2
#define TXT_SPLIT		4
#define TXT_PATTERN		8

typedef struct txt_step
{
	uint16_t	op;
	uint16_t	flag;
	uint8_t		a_len,
				b_len;
	char		a[13],
				b[13];
} txt_step;

/* Of an added token. */
#define TXT_SINGLE_WORD	1
#define TXT_LSTRIP		2
#define TXT_RSTRIP		4

struct txt_added
{
	int32_t		id;
	uint32_t	flags;
};

/* node and byte to node; key 0: free.  Nodes count from 1, keys are node << 8 | byte. */
struct txt_edge
{
	uint32_t	key;
	uint32_t	child;
};

/* The pair becomes token id; those of less rank first.  rank 0: free, ranks count from 1. */
struct txt_merge
{
	int32_t		left,
				right;
	uint32_t	rank;
	int32_t		id;
};

typedef enum txt_section
{
	TXT_SECTION_TEXT_AT,
	TXT_SECTION_TEXT,
	TXT_SECTION_EDGES,
	TXT_SECTION_NODE_ID,
	TXT_SECTION_SCORES,
	TXT_SECTION_MERGES,
	TXT_SECTION_BYTE_ID,
	TXT_SECTION_ADDED,
	TXT_SECTION_CHARSMAP,
	TXT_SECTION_CHARSMAP_TEXT,
	TXT_N_SECTIONS
} txt_section;

/* Roots of the tries in edges: the vocabulary, added tokens of raw and of normalized text. */
#define TXT_ROOT		1
#define TXT_ROOT_RAW	2
#define TXT_ROOT_NORMAL	3

struct txt_head
{
	uint64_t	magic;
	uint32_t	version;
	uint32_t	model;			/* txt_model */
	uint64_t	size;			/* of all */
	uint64_t	at[TXT_N_SECTIONS];
	uint64_t	count[TXT_N_SECTIONS];	/* elements; edges and merges: a power of two */
	int32_t		unknown;		/* token, or -1 */
	uint32_t	continuation;	/* wordpiece: node of "##" */
	uint32_t	max_word;		/* wordpiece: characters of a word; longer ones are unknown */
	uint32_t	fuse_unknown;	/* unigram: neighbours that are unknown are one */
	uint32_t	trim;			/* bpe: a token's place in the text is without spaces at its ends */
	double		unknown_score;
	uint32_t	n_normalize,
				n_split,
				n_before,
				n_after;
	txt_step	normalize[TXT_MAX_STEPS];
	txt_step	split[TXT_MAX_STEPS];
	int32_t		before[TXT_MAX_TEMPLATE];
	int32_t		after[TXT_MAX_TEMPLATE];
};

static inline uint32_t
txt_hash(uint64_t key)
{
	return (uint32_t) ((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

/* Node below node by a byte, or 0. */
static inline uint32_t
txt_child(const txt_tokenizer *t, uint32_t node, unsigned char byte)
{
	uint32_t	key = node << 8 | byte;
	uint32_t	mask = (uint32_t) t->head->count[TXT_SECTION_EDGES] - 1;

	for (uint32_t i = txt_hash(key) & mask;; i = (i + 1) & mask)
	{
		if (t->edges[i].key == key)
			return t->edges[i].child;
		if (t->edges[i].key == 0)
			return 0;
	}
}

/* ---- buffers (work.c) ---- */

/* Text on its way, and where each of its bytes comes from. */
typedef struct txt_buffer
{
	char	   *data;
	uint32_t   *from,			/* bytes of the original: [from, to) */
			   *to;
	size_t		len;
	size_t		size;
} txt_buffer;

/* A word: part of the buffer. */
typedef struct txt_span
{
	uint32_t	at,
				len;
} txt_span;

struct txt_work
{
	const mr_env *env;
	mr_status  *st;				/* of the call being made */
	txt_buffer	text;			/* as it is now */
	txt_buffer	other;			/* what a step writes */
	txt_span   *span;
	size_t		n_spans,
				spans_size;
	txt_span   *other_span;
	size_t		n_other_spans,
				other_spans_size;
	txt_token  *token;
	size_t		n_tokens,
				tokens_size;
	void	   *scratch;		/* of a model */
	size_t		scratch_size;
	size_t		enough;			/* stop when so many tokens are there */
	uint32_t	steps;			/* since interrupts were looked for */
};

/* False: out of memory, and the status says so. */
extern bool txt_room(txt_work *w, txt_buffer *b, size_t more);
extern bool txt_add_token(txt_work *w, int32_t id, size_t from, size_t to);	/* bytes of w->text */
extern bool txt_add_span(txt_work *w, size_t at, size_t len);	/* to other_span */
extern void *txt_scratch(txt_work *w, size_t size);
extern mr_code txt_stop(txt_work *w);	/* the status' code: for those who return false */

/* To be called every so many bytes of work; false: canceled. */
static inline bool
txt_go_on(txt_work *w, uint32_t work)
{
	w->steps += work;
	if (w->steps < TXT_GO_ON)
		return true;
	w->steps = 0;
	return !mr_interrupted(w->env) || (mr_fail(w->st, MR_CANCELED, "canceled"), false);
}

static inline void
txt_put_byte(txt_buffer *b, char c, uint32_t from, uint32_t to)
{
	b->data[b->len] = c;
	b->from[b->len] = from;
	b->to[b->len++] = to;
}

/* ---- Unicode (unicode.c), of utf8proc ---- */

/* The character at p, and its bytes; a byte that begins none is U+FFFD by itself. */
extern int32_t txt_decode(const char *p, const char *end, int *len);

/* Append a character, for which there is room (4 bytes). */
extern void txt_put(txt_buffer *b, int32_t c, uint32_t from, uint32_t to);

extern bool txt_is_space(int32_t c);
extern bool txt_is_control(int32_t c);
extern bool txt_is_punctuation(int32_t c);	/* BERT's: all ASCII symbols too */
extern bool txt_is_chinese(int32_t c);
extern bool txt_is_nonspacing(int32_t c);
extern bool txt_is_mark(int32_t c);	/* of any kind */
extern bool txt_is_letter(int32_t c);
extern bool txt_is_number(int32_t c);
extern bool txt_is_word(int32_t c); /* \w */
extern int	txt_lower(int32_t c, int32_t out[2]);	/* how many */
extern int	txt_combining(int32_t c);	/* canonical combining class */

extern int	txt_letter_byte(int32_t c); /* the inverse of txt_byte_letter(); -1: none */

/* Canonical or compatibility decomposition; how many characters, at least 1. */
#define TXT_MAX_DECOMPOSED 32
extern int	txt_decompose(int32_t c, bool compatible, int32_t out[TXT_MAX_DECOMPOSED]);

/* ---- steps ---- */

extern bool txt_normalize(const txt_tokenizer *t, txt_work *w);
extern bool txt_normal_form(txt_work *w, int flag);	/* normal_form.c */
extern bool txt_charsmap(const txt_tokenizer *t, txt_work *w);	/* charsmap.c */
extern bool txt_split(const txt_tokenizer *t, txt_work *w, bool first);
extern bool txt_split_bytes(txt_work *w, const txt_span *s);	/* split_bytes.c */

/* A word into tokens. */
extern bool txt_wordpiece(const txt_tokenizer *t, txt_work *w, txt_span s);
extern bool txt_bpe(const txt_tokenizer *t, txt_work *w, txt_span s);
extern bool txt_unigram(const txt_tokenizer *t, txt_work *w, txt_span s);

/* ---- compiling (compile.c) ---- */

typedef struct txt_string
{
	const char *data;
	uint32_t	len;
	bool		given;
} txt_string;

/* What a file says, before it is laid out.  Memory of env. */
typedef struct txt_source
{
	const mr_env *env;
	mr_status  *st;
	txt_head	head;			/* without sections */
	txt_string *token;			/* by id */
	size_t		n_tokens,
				tokens_size;
	double	   *scores;			/* unigram; as many as tokens */
	txt_string (*merges)[2];	/* bpe: left and right, in order of rank */
	size_t		n_merges,
				merges_size;
	txt_added  *added;
	txt_string *added_text;
	bool	   *added_normal;	/* looked for in normalized text */
	size_t		n_added,
				added_size;
	char	   *charsmap;		/* as in the file, decoded from base64 */
	size_t		charsmap_len;
	bool		byte_level;		/* tokens are written in GPT-2's alphabet of bytes */
	struct txt_block *blocks;	/* memory of strings */
	uint32_t	steps;			/* since interrupts were looked for */
} txt_source;

extern bool txt_set_token(txt_source *s, size_t id, const char *data, size_t len);
extern bool txt_add_merge(txt_source *s, const char *left, size_t left_len, const char *right, size_t right_len);
extern bool txt_find_token(const txt_source *s, const char *data, size_t len, int32_t *id);
extern bool txt_add_added(txt_source *s, int32_t id, uint32_t flags, bool normal, const char *data, size_t len);
extern char *txt_keep(txt_source *s, size_t len);	/* bytes that live as long as s */
extern bool txt_source_go_on(txt_source *s, uint32_t work);	/* as txt_go_on() */
extern bool txt_check_utf8(txt_source *s, const char *data, size_t len);
extern mr_code txt_lay_out(txt_source *s, void **out, size_t *out_len);
extern void txt_source_free(txt_source *s);

/* Grow an array of elements to hold n + 1; false: out of memory. */
extern bool txt_grow(const mr_env *env, void **array, size_t n, size_t *size, size_t element, mr_status *st);

#endif							/* MILLRACE_TEXT_INT_H */
