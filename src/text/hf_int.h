/*
 * hf_int.h
 *	  What the readers of a model's folder share.
 */
#ifndef MILLRACE_TEXT_HF_INT_H
#define MILLRACE_TEXT_HF_INT_H

#include <stdlib.h>
#include <string.h>

#include "text/hf.h"
#include "text/members.h"

/* ---- a folder being read (hf_folder.c) ---- */

extern bool txt_is_utf8(const char *p, size_t len);

/* Messages show names of others cut to 80 bytes; at last all that is not printable ASCII becomes "?". */
extern void txt_printable(mr_status *st);

typedef struct txt_folder
{
	const mr_env *env;
	mr_status  *st;
	const txt_bundle *bundle;
	char		dir[TXT_TEXT_SIZE]; /* of the transformer: "", or "0_Transformer/" in old folders */
	txt_hf	   *hf;
	double		max_seq_length; /* of sentence_bert_config.json, else NaN */
} txt_folder;

/* File of the transformer's folder; NULL: not there. */
extern const txt_file *txt_folder_find(const txt_folder *f, const char *name);

/* False always; "file: " before what the status says. */
extern bool txt_in_file(const txt_folder *f, const txt_file *file);

/* A reader at the file's begin, its bytes being valid UTF-8 and no more than most. */
extern bool txt_json_begin(const txt_folder *f, const txt_file *file, const char *bytes, size_t len, size_t most, mr_json *js);
extern bool txt_json_end(mr_json *js);	/* nothing follows */

#define TXT_MAX_JSON (16 << 20) /* bytes of a configuration */

/* The whole file is an object: its members; what fails names the file. */
extern bool txt_read_json(const txt_folder *f, const txt_file *file, const txt_member *m, int n);

/* A whole number in [least, most]; NaN: the file lacks it. */
extern bool txt_whole(const txt_folder *f, const txt_file *file, const char *key, double value, int least, int most, int32_t *out);

/* ---- safetensors.c ---- */

typedef struct txt_named_tensor
{
	const char *name;
	size_t		name_len;
	const txt_file *file;
	txt_tensor	tensor;			/* dtype nn_none: another, as type says */
	char		type[16];
	uint64_t	begin,			/* of its data */
				end;
} txt_named_tensor;

typedef struct txt_tensors
{
	txt_named_tensor *tensor;	/* sorted by name; of env */
	size_t		n,
				size;
} txt_tensors;

/* The tensors of model.safetensors or of the files that its index names. */
extern bool txt_has_tensors(const txt_folder *f);
extern bool txt_tensors_open(const txt_folder *f, txt_tensors *t);
extern void txt_tensors_free(const mr_env *env, txt_tensors *t);
extern const txt_named_tensor *txt_tensors_find(const txt_tensors *t, const char *name);	/* NULL: not there */

/* ---- parts of txt_hf_read(), in this order; false: the status says why ---- */

extern bool txt_read_pooling(txt_folder *f);	/* hf_pooling.c: dir, pooling, normalize, max_seq_length, lowercase */
extern bool txt_read_config(txt_folder *f); /* hf_config.c: family, sizes, act, eps, padding */
extern bool txt_read_tensors(txt_folder *f);	/* hf_names.c */
extern const txt_file *txt_find_graph(const txt_folder *f);	/* model.onnx, or NULL */
extern bool txt_read_graph(txt_folder *f);	/* hf_graph.c: instead of these two, where there is a model.onnx */
extern bool txt_choose_tokenizer(txt_folder *f);	/* hf_tokenizer.c; and embed_tokens */

#endif							/* MILLRACE_TEXT_HF_INT_H */
