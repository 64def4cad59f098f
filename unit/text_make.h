/*
 * text_make.h
 *	  The folder of a very small BERT, file by file as text that tests edit.
 */
#ifndef MILLRACE_TEXT_MAKE_H
#define MILLRACE_TEXT_MAKE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/encoder.h"

#define MADE_FILES 8

/* A file; of model.safetensors text is the header, and data (zeros) follow. */
typedef struct made_file
{
	char		name[64];
	char	   *text;			/* of malloc */
	size_t		data;
} made_file;

typedef struct made_folder
{
	int			n;
	made_file	file[MADE_FILES];
} made_folder;

static __attribute__((unused)) made_file *
made_find(made_folder *f, const char *name)
{
	for (int i = 0; i < f->n; i++)
		if (strcmp(f->file[i].name, name) == 0)
			return &f->file[i];
	return NULL;
}

static __attribute__((unused)) void
made_add(made_folder *f, const char *name, const char *text)
{
	made_file  *file = &f->file[f->n++];

	snprintf(file->name, sizeof(file->name), "%s", name);
	file->text = strdup(text);
	file->data = 0;
}

/* The first from in the file becomes to; false: there is none. */
static __attribute__((unused)) bool
made_edit(made_folder *f, const char *name, const char *from, const char *to)
{
	made_file  *file = made_find(f, name);
	char	   *at = file ? strstr(file->text, from) : NULL;
	char	   *edited;
	size_t		size;

	if (at == NULL)
		return false;
	size = strlen(file->text) + strlen(to) + 1;
	edited = malloc(size);
	snprintf(edited, size, "%.*s%s%s", (int) (at - file->text), file->text, to, at + strlen(from));
	free(file->text);
	file->text = edited;
	return true;
}

static void
made_tensor(char *header, size_t size, size_t *at, const char *name, int rows, int columns)
{
	size_t		bytes = (size_t) rows * (size_t) (columns ? columns : 1) * 4;
	size_t		len = strlen(header);
	char		shape[32];

	snprintf(shape, sizeof(shape), columns ? "[%d,%d]" : "[%d]", rows, columns);
	snprintf(header + len, size - len, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", len > 1 ? "," : "",
			 name, shape, *at, *at + bytes);
	*at += bytes;
}

/* 8 tokens, 4 wide, 2 heads, 1 layer, 6 within, 10 positions, 2 types. */
static __attribute__((unused)) made_folder
made_bert(void)
{
	static const char *const linear[] = {
		"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense"
	};
	static const char *const norm[] = {"embeddings.LayerNorm", "encoder.layer.0.attention.output.LayerNorm", "encoder.layer.0.output.LayerNorm"};
	made_folder f = {0};
	char		header[8192] = "{",
				name[128];
	size_t		at = 0;

	made_tensor(header, sizeof(header), &at, "embeddings.word_embeddings.weight", 8, 4);
	made_tensor(header, sizeof(header), &at, "embeddings.position_embeddings.weight", 10, 4);
	made_tensor(header, sizeof(header), &at, "embeddings.token_type_embeddings.weight", 2, 4);
	for (int i = 0; i < 6; i++)
	{
		snprintf(name, sizeof(name), "encoder.layer.0.%s.weight", linear[i]);
		made_tensor(header, sizeof(header), &at, name, i == 4 ? 6 : 4, i == 5 ? 6 : 4);
		snprintf(name, sizeof(name), "encoder.layer.0.%s.bias", linear[i]);
		made_tensor(header, sizeof(header), &at, name, i == 4 ? 6 : 4, 0);
	}
	for (int i = 0; i < 3; i++)
	{
		snprintf(name, sizeof(name), "%s.weight", norm[i]);
		made_tensor(header, sizeof(header), &at, name, 4, 0);
		snprintf(name, sizeof(name), "%s.bias", norm[i]);
		made_tensor(header, sizeof(header), &at, name, 4, 0);
	}
	strcat(header, "}");
	made_add(&f, "config.json", "{\"model_type\":\"bert\",\"hidden_size\":4,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
			 "\"intermediate_size\":6,\"hidden_act\":\"gelu\",\"vocab_size\":8,\"max_position_embeddings\":10,\"type_vocab_size\":2,"
			 "\"layer_norm_eps\":1e-12}");
	made_add(&f, "model.safetensors", header);
	f.file[f.n - 1].data = at;
	made_add(&f, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##c\n");
	made_add(&f, "tokenizer_config.json", "{\"do_lower_case\":true,\"model_max_length\":9}");
	made_add(&f, "modules.json", "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
			 "{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"},"
			 "{\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}]");
	made_add(&f, "1_Pooling/config.json", "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}");
	made_add(&f, "sentence_bert_config.json", "{\"max_seq_length\":7,\"do_lower_case\":false}");
	return f;
}

/* The bundle, of malloc. */
static __attribute__((unused)) void *
made_bundle(const made_folder *f, size_t *len)
{
	txt_file	file[MADE_FILES];
	char	   *weights = NULL;
	void	   *out;
	mr_status	st = {0};

	for (int i = 0; i < f->n; i++)
	{
		const made_file *m = &f->file[i];
		uint64_t	n = strlen(m->text);

		file[i] = (txt_file) {m->name, m->text, n};
		if (strcmp(m->name, "model.safetensors") == 0)
		{
			weights = calloc(1, 8 + n + m->data);
			memcpy(weights, &n, 8);
			memcpy(weights + 8, m->text, n);
			file[i] = (txt_file) {m->name, weights, 8 + n + m->data};
		}
	}
	if (txt_bundle_write(&mr_env_malloc, file, f->n, &out, len, &st) != MR_OK)
	{
		printf("# %s\n", st.message);
		abort();
	}
	free(weights);
	return out;
}

static __attribute__((unused)) void
made_free(made_folder *f)
{
	for (int i = 0; i < f->n; i++)
		free(f->file[i].text);
	f->n = 0;
}

#endif							/* MILLRACE_TEXT_MAKE_H */
