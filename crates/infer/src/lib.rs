//! Frames to detections: batches across cameras, runs the model, decodes its tensors.
