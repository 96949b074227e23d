"""The limit of the model's runtime: ONNX Runtime on one thread, one batch after the other, no server around it.

`onnx_direct.py MODEL.onnx ROWS.npy BATCH_ROWS SECONDS` prints `{"rows_per_s": ...}`.
"""

import json
import sys
import time

import numpy as np
import onnxruntime as ort

model, rows_file, batch_rows, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
rows = np.load(rows_file)
batches = [rows[start : start + batch_rows] for start in range(0, len(rows) - batch_rows + 1, batch_rows)]

for batch in batches:
    session.run(None, {"x": batch})
done = 0
start_s = time.perf_counter()
while (elapsed_s := time.perf_counter() - start_s) < seconds:
    for batch in batches:
        session.run(None, {"x": batch})
    done += len(batches) * batch_rows
print(json.dumps({"rows_per_s": done / elapsed_s}))
