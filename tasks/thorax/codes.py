"""SNOMED CT codes of the findings of public chest X-ray sets, for DICOM results.

Labels that mean no one concept are left out and coded privately, with their name: `Hernia` (of what), `Lung Opacity`,
`Infiltration`, `Lesion`, `Support Devices`, `No Finding`, and those of which no code is certain.
"""

from ...stages.dicom.case import Code


def _code(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


_EDEMA, _EFFUSION = _code("19242006", "Pulmonary edema"), _code("60046008", "Pleural effusion")
_FIBROSIS, _NODULE = _code("51615001", "Fibrosis of lung"), _code("786838002", "Nodule of lung")
CODES = {
    "Atelectasis": _code("46621007", "Atelectasis"),
    "Cardiomegaly": _code("8186001", "Cardiomegaly"),
    "Effusion": _EFFUSION,
    "Pleural Effusion": _EFFUSION,
    "Pleural effusion": _EFFUSION,
    "Mass": _code("309529002", "Lung mass"),
    "Nodule": _NODULE,
    "Pneumonia": _code("233604007", "Pneumonia"),
    "pneumonia": _code("233604007", "Pneumonia"),
    "Pneumothorax": _code("36118008", "Pneumothorax"),
    "Consolidation": _code("95436008", "Lung consolidation"),
    "Edema": _EDEMA,
    "Emphysema": _code("87433001", "Pulmonary emphysema"),
    "Fibrosis": _FIBROSIS,
    "Pulmonary fibrosis": _FIBROSIS,
    "Rib fracture": _code("33737001", "Fracture of rib"),
    "Clavicle fracture": _code("58150001", "Fracture of clavicle"),
    "ILD": _code("233703007", "Interstitial lung disease"),
    "COPD": _code("13645005", "Chronic obstructive lung disease"),
    "Tuberculosis": _code("56717001", "Tuberculosis"),
    "COVID-19": _code("840539006", "COVID-19"),
}
