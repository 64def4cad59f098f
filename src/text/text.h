/*
 * text.h
 *	  Tokenizers: text into the numbers a language model reads, exactly as the
 *	  tokenizers library does from the same file.
 *
 * A tokenizer is compiled once, from tokenizer.json or vocab.txt, into one block
 * of bytes without pointers that may lie in a file and be mapped by many
 * processes; txt_open() checks it and points into it.  Encoding keeps its
 * buffers in a txt_work, one a caller, and takes time linear in the text.
 *
 * Families: WordPiece (BERT, DistilBERT, MPNet), byte-level BPE (RoBERTa, GPT-2)
 * and Unigram (SentencePiece: XLM-R).
 */
#ifndef MILLRACE_TEXT_H
#define MILLRACE_TEXT_H

#include "core/env.h"
#include "core/status.h"

#define TXT_COMPILER_VERSION 2	/* raised when compiled bytes change */
#define TXT_MAX_FILE (256 << 20)	/* bytes of a tokenizer's file */

typedef struct txt_head txt_head;
typedef struct txt_edge txt_edge;
typedef struct txt_merge txt_merge;
typedef struct txt_added txt_added;

/* Views into the compiled bytes, which must outlive them. */
typedef struct txt_tokenizer
{
	const txt_head *head;
	const uint32_t *text_at;	/* token i is text[text_at[i] .. text_at[i + 1]) */
	const char *text;
	const txt_edge *edges;
	const int32_t *node_id;		/* token that ends at a node of the tries, or -1 */
	const double *scores;		/* unigram: log probability of each token */
	const txt_merge *merges;	/* bpe */
	const int32_t *byte_id;		/* bpe: token of each byte, or -1 */
	const txt_added *added;
	const uint32_t *charsmap;	/* unigram: SentencePiece's precompiled normalizer */
	const char *charsmap_text;
} txt_tokenizer;

/* A token and the bytes of the text it stands for; start = end for those the template adds. */
typedef struct txt_token
{
	int32_t		id;
	uint32_t	start,
				end;
} txt_token;

/* What vocab.txt does not say. */
typedef struct txt_vocab_options
{
	bool		lowercase;
	bool		strip_accents;
	bool		chinese;			/* a space around each CJK character */
} txt_vocab_options;

/* Compile; *out is allocated in env.  MR_UNSUPPORTED names the part we do not do. */
extern mr_code txt_compile_json(const mr_env *env, const char *json, size_t len, void **out, size_t *out_len, mr_status *st);
extern mr_code txt_compile_vocab(const mr_env *env, const char *vocab, size_t len, const txt_vocab_options *options,
								 void **out, size_t *out_len, mr_status *st);

/* MR_CORRUPT unless every index within is in bounds. */
extern mr_code txt_open(const void *bytes, size_t len, txt_tokenizer *t, mr_status *st);

/* Buffers of a caller and the tokens of the text encoded last. */
typedef struct txt_work txt_work;
extern txt_work *txt_work_create(const mr_env *env, mr_status *st);
extern void txt_work_free(txt_work *w);

typedef struct txt_limits
{
	bool		special;		/* with the template's tokens: [CLS] … [SEP] */
	int			max_tokens;		/* of these in all; 0: no bound.  What is cut is the end of the text */
} txt_limits;

typedef struct txt_tokens
{
	const txt_token *token;
	int			n;
	bool		truncated;
} txt_tokens;

/* The text need not be valid UTF-8; *out is valid until w is used again. */
extern mr_code txt_encode(const txt_tokenizer *t, txt_work *w, const char *text, size_t len, const txt_limits *limits,
						  txt_tokens *out, mr_status *st);

/* The same, but where that is enough only the beginning of a long text is read (encode_cut.c). */
extern mr_code txt_encode_cut(const txt_tokenizer *t, txt_work *w, const char *text, size_t len, const txt_limits *limits,
							  txt_tokens *out, mr_status *st);

/* The tokens that the template adds before and after a text's. */
extern void txt_template(const txt_tokenizer *t, const int32_t **before, int *n_before, const int32_t **after, int *n_after);

/* Bytes of token id, as the vocabulary has them; NULL if there is none. */
extern const char *txt_token_text(const txt_tokenizer *t, int32_t id, size_t *len);
extern int	txt_vocabulary(const txt_tokenizer *t);

/* Whether tokens are any bytes, which the vocabulary's file writes as letters: GPT-2's alphabet. */
extern bool txt_bytes_as_letters(const txt_tokenizer *t);
extern int32_t txt_byte_letter(unsigned char c);

#endif							/* MILLRACE_TEXT_H */
