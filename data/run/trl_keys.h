// trl_keys: what a config of TRL's may hold besides the keys of options.c. The table is trl_keys.txt.
#ifndef TRL_KEYS_H
#define TRL_KEYS_H

#include "../../model/base.h"

// What stands behind NAME= in the table's lines of this kind ("older", "hint", "value"); false if there is none.
typedef char TrlWord[64];
bool trl_find(const char *kind, const char *name, TrlWord value);

// A key of TRL's that has no effect here. FOREIGN_REFUSED: this value would need one. The error says why there is none;
// for FOREIGN_ACCEPTED only where any value will do, and else it is empty.
typedef enum { FOREIGN_UNKNOWN, FOREIGN_ACCEPTED, FOREIGN_REFUSED } Foreign;
Foreign trl_foreign(const char *key, const cJSON *value, Err *e);

#endif
