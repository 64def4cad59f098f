/*
 * kind_pg.c
 *	  Kinds of models: networks, learners, and those that other rooms bring.
 *
 * The table is filled while the library is loaded and never changes after that,
 * so it needs no lock; each process has its own.
 */
#include "postgres.h"

#include "registry/model.h"

#define MAX_KINDS 8

static const reg_room_kind *kinds[MAX_KINDS];
static int	n_kinds = 0;

void
reg_add_kind(const reg_room_kind *kind)
{
	if (n_kinds == MAX_KINDS)
		elog(ERROR, "too many kinds of models");
	kinds[n_kinds++] = kind;
}

const reg_room_kind *
reg_room_kind_of(reg_kind kind)
{
	return kind >= REG_ROOM && kind < REG_ROOM + n_kinds ? kinds[kind - REG_ROOM] : NULL;
}

const char *
reg_kind_name(reg_kind kind)
{
	const reg_room_kind *room = reg_room_kind_of(kind);

	return room ? room->name : kind == REG_ONNX ? "onnx" : lrn_algorithm_name((lrn_algorithm) kind);
}

bool
reg_kind_by_name(const char *name, reg_kind *kind)
{
	lrn_algorithm algorithm;
	mr_status	st;

	if (strcmp(name, "onnx") == 0)
	{
		*kind = REG_ONNX;
		return true;
	}
	for (int i = 0; i < n_kinds; i++)
		if (strcmp(name, kinds[i]->name) == 0)
		{
			*kind = REG_ROOM + i;
			return true;
		}
	if (lrn_algorithm_find(name, &algorithm, &st) != MR_OK)
		return false;
	*kind = (reg_kind) algorithm;
	return true;
}

bool
reg_kind_by_bytes(const void *bytes, size_t size, reg_kind *kind)
{
	for (int i = 0; i < n_kinds; i++)
		if (kinds[i]->claims(bytes, size))
		{
			*kind = REG_ROOM + i;
			return true;
		}
	return false;
}

const reg_room_kind *
reg_kind_of_files(void)
{
	for (int i = 0; i < n_kinds; i++)
		if (kinds[i]->bundle)
			return kinds[i];
	return NULL;
}

void
reg_check_task(const reg_model *m, reg_task task)
{
	const reg_room_kind *room = reg_room_kind_of(m->kind);

	if (task == REG_ANY || (room ? room->task == task : task != REG_ENCODE))
		return;
	if (room)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" (%s) %s: it takes no images or numbers", m->reference, room->name, room->does),
				 errhint("%s", room->hint)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("model \"%s\" (%s) does not encode texts", m->reference, reg_kind_name(m->kind)),
			 errhint("SELECT name, version FROM millrace.models WHERE kind = 'encoder' lists the encoders.")));
}

const void *
reg_open_kind(const reg_model *m, const reg_room_kind *kind)
{
	if (reg_room_kind_of(m->kind) != kind)
		elog(ERROR, "model \"%s\" (%s) is not of kind \"%s\"", m->reference, reg_kind_name(m->kind), kind->name);
	reg_load(m);
	return m->loaded->opened;
}
