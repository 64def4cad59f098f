"""The usual Python service before the others: FastAPI, as uvicorn runs it.

    MODELS=models.pkl BROKERS=… PHOTOS=topic uvicorn api:app --workers 2

POST /predict {"descriptors": [20], "profile"?} -> label and confidence by scikit-learn.
POST /upload (multipart `file`) -> 201, and a message for services.py: as the tutorials do it, the broker has it before the answer.
"""
import base64
import json
import os
import pickle
import time
import uuid

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'

import numpy as np
from fastapi import FastAPI, HTTPException, UploadFile
from pydantic import BaseModel

app = FastAPI()
models = pickle.load(open(os.environ['MODELS'], 'rb'))
producer = None


class Features(BaseModel):
    descriptors: list[float]
    profile: str = 'fast'


@app.post('/predict')
def predict(features: Features):
    started = time.perf_counter()
    model = models.get(features.profile)
    if model is None or len(features.descriptors) != 20:
        raise HTTPException(400, 'unknown profile, or not 20 descriptors')
    p = model.predict_proba(np.array([features.descriptors]))[0]
    best = int(p.argmax())
    return {'label': str(model.classes_[best]), 'confidence': float(p[best]), 'model': features.profile,
            'latency_ms': 1000 * (time.perf_counter() - started)}


@app.post('/upload', status_code=201)
def upload(file: UploadFile):
    global producer
    if producer is None:
        from confluent_kafka import Producer
        producer = Producer({'bootstrap.servers': os.environ['BROKERS'], 'linger.ms': 0})
    image_id = str(uuid.uuid4())
    producer.produce(os.environ['PHOTOS'], json.dumps({'image_id': image_id, 'content': base64.b64encode(file.file.read()).decode()}))
    producer.flush()
    return {'image_id': image_id, 'object_path': 'uploads/' + image_id}
