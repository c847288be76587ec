"""From a student to a bundle: one artefact with model, tokenizer and label spaces, without torch.

graph.py           the student as ONNX, fp32 and int8 (needs torch)
choose.py          engines measured on this machine and on dev rows (needs torch)
choose_decoder.py  the same for encoder-decoders
engines.py         what runs a graph
decoders.py        what runs an encoder-decoder
bundle.py          the files: written, packed, read and checked
onnx_file.py       what an ONNX file holds
write.py           all of it together
"""
