// peft: an adapter in a folder, as PEFT 0.21 reads and writes it: adapter_config.json and adapter_model.safetensors.
// What PEFT would take without a word, and what is not built here, is refused by name.
#ifndef PEFT_H
#define PEFT_H

#include "lora.h"

#define ADAPTER_CONFIG "adapter_config.json"
bool adapter_is(const char *path);                         // a folder with this file in it?
cJSON *adapter_config(const char *folder, Err *e);         // what is in it; owned by the caller
// The path of an adapter's base: `given`, or the adapter's base_model_name_or_path, from the working directory or else
// from the adapter's folder. Owned by the caller; NULL and e if there is none, or if it is an adapter itself.
char *adapter_base(const char *folder, const char *given, Err *e);

// What keys of adapter_config.json make of a model: an adapter without numbers, owned by the caller. `where` begins a
// message. NULL if the keys are wrong or ask for what is not built here.
Adapter *adapter_plan(const Config *c, const cJSON *json, const char *where, Err *e);
// Reads an adapter onto its base. Fails if a tensor is missing, left over, of another shape or not finite, and if the
// base is another than the one it was trained on: with `any_base` that is a warning.
bool adapter_load(Model *m, const char *folder, bool any_base, Err *e);
bool adapter_save(const Model *m, const char *folder, const char *base, Err *e);       // base: its path

#endif
