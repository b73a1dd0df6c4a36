/* SavedModel + image file -> the labels of serving_default, with TensorFlow's C API only.

   TF_LoadSessionFromSavedModel is the loader that TF Serving is built on.

   serve FOLDER INPUT OUTPUT IMAGE    tensors as NAME:INDEX, as saved_model_cli shows them */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static TF_Status* status;

static void check(const char* step) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: code %d: %s\n", step, TF_GetCode(status), TF_Message(status));
  exit(1);
}

static TF_Output find(TF_Graph* graph, char* name) {
  char* colon = strchr(name, ':');
  *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (output.oper == NULL) {
    fprintf(stderr, "no operation is named %s\n", name);
    exit(1);
  }
  return output;
}

static TF_Tensor* read_image(const char* path) {
  FILE* file = fopen(path, "rb");
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char* bytes = malloc(size + 1);
  if (fread(bytes, 1, size, file) != (size_t)size) exit(1);
  fclose(file);
  int64_t shape[] = {1};
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, shape, 1, sizeof(TF_TString));
  TF_TString* string = TF_TensorData(tensor);
  TF_StringInit(string);
  TF_StringCopy(string, bytes, size);
  free(bytes);
  return tensor;
}

int main(int count, char** arguments) {
  if (count != 5) return 2;
  status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph,
                                                     NULL, status);
  check("loading");
  TF_Output input = find(graph, arguments[2]), output = find(graph, arguments[3]);
  TF_Tensor* image = read_image(arguments[4]);
  TF_Tensor* labels = NULL;
  TF_SessionRun(session, NULL, &input, &image, 1, &output, &labels, 1, NULL, 0, NULL, status);
  check("running");
  TF_TString* label = TF_TensorData(labels);
  for (int64_t i = 0; i < TF_Dim(labels, 1); ++i)
    printf("%.*s\n", (int)TF_StringGetSize(label + i), TF_StringGetDataPointer(label + i));
  return 0;
}
