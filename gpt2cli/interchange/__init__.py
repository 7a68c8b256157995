"""Models in other programs' files, written and read: GGUF, CTranslate2, ONNX, OpenAI's TensorFlow, llm.c, nanoGPT."""
